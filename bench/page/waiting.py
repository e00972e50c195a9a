"""How long a visitor waits: for the page after its start, for the first token, alone and in a crowd.

By the real app: from start to the first page served, against importing torch, transformers, peft and gradio alone (in
turn, medians over the rounds); from Enter to the first token on the screen, in headless Chromium; and for so many
visitors at once, through gradio_client, until each has its first token.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import threading
import time

from gradio_client import Client
from playwright.sync_api import Page

from bench.shared.served import served

IMPORTS = "import torch, transformers, peft, gradio"
# From the press of Enter, until the base's column holds the first text of the new answer: ms.
FIRST_TEXT = """() => new Promise((done) => {
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


def import_seconds() -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", IMPORTS], check=True)
    return time.perf_counter() - began


def ready(rounds: int) -> tuple[float, float]:
    """Median seconds of start and of imports, in turn; a first turn of both is not counted."""
    starts, imports = [], []
    for _ in range(rounds + 1):
        imports.append(import_seconds())
        with served() as page:
            starts.append(page.seconds)
    return statistics.median(starts[1:]), statistics.median(imports[1:])


def first_tokens(page: Page, url: str, questions: list[str]) -> list[float]:
    """Milliseconds from Enter to the first token on the screen, of each question after the first."""
    found = []
    page.goto(url)
    page.locator("#adapted-status").wait_for()
    for question in questions:
        page.locator("#question textarea").fill(question)
        page.wait_for_timeout(300)
        found.append(page.evaluate(FIRST_TEXT))
        page.wait_for_function("!document.querySelector('[data-state=writing]')", timeout=60_000)
    return found[1:]


def crowd(url: str, questions: list[str]) -> list[float]:
    """Seconds until each of so many visitors who ask at the same moment has its first token."""
    clients, found, gate = [Client(url, verbose=False) for _ in questions], [], threading.Barrier(len(questions))

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
