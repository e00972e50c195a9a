"""How long a visitor waits: python -m bench.page [--rounds 3] [--questions 20] [--visitors 20]

On the embedded pair, by the real app: from start to the first page served, against importing torch, transformers, peft
and gradio alone (in turn, medians over the rounds); from Enter to the first token on the screen, in headless Chromium,
median over the questions; and for so many visitors at once, through gradio_client, until each has its first token.
Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator

from gradio_client import Client
from playwright.sync_api import sync_playwright

from bench.hit_qa import held_out

PORT = 7897
URL = f"http://127.0.0.1:{PORT}/"
IMPORTS = "import torch, transformers, peft, gradio"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
# From the press of Enter, until the base's column holds the first text of the new answer: ms.
FIRST_TEXT = """(question) => new Promise((done) => {
  const box = document.querySelector('#question textarea');
  const shown = () => {
    const column = document.querySelector('#base'), text = column.querySelector('.lens-answer');
    return column.dataset.state === 'writing' && text && text.dataset.text;
  };
  const began = performance.now();
  const look = () => shown() ? done(performance.now() - began) : requestAnimationFrame(look);
  box.dispatchEvent(new KeyboardEvent('keydown', { key: 'Enter', bubbles: true }));
  box.dispatchEvent(new KeyboardEvent('keypress', { key: 'Enter', bubbles: true }));
  look();
})"""


@contextlib.contextmanager
def served() -> Iterator[float]:
    """The app; gives the seconds until it served its first page."""
    began = time.perf_counter()
    app = subprocess.Popen([sys.executable, "app.py", "--port", str(PORT)], stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL)
    try:
        while True:
            try:
                urllib.request.urlopen(URL, timeout=5).close()
                break
            except OSError:
                if app.poll() is not None:
                    sys.exit("app.py ended before the page was up")
                time.sleep(0.02)
        yield time.perf_counter() - began
    finally:
        app.terminate()
        app.wait()


def import_seconds() -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", IMPORTS], check=True)
    return time.perf_counter() - began


def ready(rounds: int) -> tuple[float, float]:
    """Median seconds of start and of imports, in turn; a first turn of both is not counted."""
    starts, imports = [], []
    for _ in range(rounds + 1):
        imports.append(import_seconds())
        with served() as seconds:
            starts.append(seconds)
    return statistics.median(starts[1:]), statistics.median(imports[1:])


def first_tokens(questions: list[str]) -> list[float]:
    """Milliseconds from Enter to the first token on the screen, of each question after the first."""
    found = []
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1440, "height": 900}, locale="zh-CN")
        page.goto(URL)
        page.locator("#adapted-status").wait_for()
        for question in questions:
            page.locator("#question textarea").fill(question)
            page.wait_for_timeout(300)
            found.append(page.evaluate(FIRST_TEXT, question))
            page.wait_for_function("!document.querySelector('[data-state=writing]')", timeout=60_000)
        browser.close()
    return found[1:]


def crowd(questions: list[str]) -> list[float]:
    """Seconds until each of so many visitors who ask at the same moment has its first token."""
    clients, found, gate = [Client(URL, verbose=False) for _ in questions], [], threading.Barrier(len(questions))

    def ask(client: Client, question: str) -> None:
        gate.wait()
        began = time.perf_counter()
        job = client.submit(question, max_new_tokens=128, api_name="/compare")
        next(iter(job))
        found.append(time.perf_counter() - began)
        job.cancel()

    threads = [threading.Thread(target=ask, args=pair) for pair in zip(clients, questions, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--questions", type=int, default=20)
    parser.add_argument("--visitors", type=int, default=20)
    args = parser.parse_args()
    start, imports = ready(args.rounds)
    print("| | measured | target |\n| --- | --- | --- |")
    print(f"| page ready / imports alone | {start / imports:.2f} ({start:.1f} s / {imports:.1f} s) | ≤ 1.2 |",
          flush=True)
    with served():
        waits = first_tokens([q.text for q in held_out(args.questions + 1)])
        print(f"| Enter to first token on the screen, median of {len(waits)} | {statistics.median(waits):.0f} ms, "
              f"slowest {max(waits):.0f} ms | < 300 ms |", flush=True)
        crowded = crowd([q.text for q in held_out(args.visitors)])
        print(f"| first token, {len(crowded)} of {args.visitors} visitors at once, slowest | {max(crowded):.2f} s, "
              f"median {statistics.median(crowded):.2f} s | ≤ 3 s |")


if __name__ == "__main__":
    main()
