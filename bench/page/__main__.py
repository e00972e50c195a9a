"""python -m bench.page [--rounds 3] [--questions 20] [--visitors 20] [--only start opening tokens columns crowd]

What a visitor meets, on the embedded pair in headless Chromium: prints a Markdown table, then what the page weighs.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
from collections.abc import Iterator

from playwright.sync_api import Browser, sync_playwright

from bench.page.opening import DOWN, LATENCY, SLOWER, Opening, opening
from bench.page.waiting import crowd, first_tokens, ready
from bench.shared.hit_qa import held_out
from bench.shared.served import CHROMIUM, served
from lens.threads import wait_passively

PARTS = ("start", "opening", "tokens", "columns", "crowd")


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


def row(what: str, measured: str, target: str = "") -> None:
    print(f"| {what} | {measured} | {target} |", flush=True)


def share(values: list[float], part: float) -> float:
    """The value that so large a part of them does not exceed."""
    return sorted(values)[min(len(values) - 1, int(part * len(values)))]


def start(args: argparse.Namespace) -> None:
    seconds, imports = ready(args.rounds)
    row("page ready / imports alone", f"{seconds / imports:.2f} ({seconds:.1f} s / {imports:.1f} s)", "≤ 1.2")


def opened(args: argparse.Namespace) -> Opening:
    with served() as page, chromium() as browser:
        opening(browser, page.url, throttled=False)  # the server's first page is not counted
        slow = [opening(browser, page.url) for _ in range(args.rounds)]
        full = opening(browser, page.url, throttled=False)
    line = f"{LATENCY} ms, {DOWN * 8 / 1e6:g} Mbit/s, processor {SLOWER} times slower"
    for name, one in ((line, slow), ("without throttling", [full])):
        row(f"first contentful paint, {name}", f"{statistics.median(o.painted for o in one) / 1000:.2f} s")
        row(f"time to interactive, {name}", f"{statistics.median(o.usable for o in one) / 1000:.2f} s")
    row("page weight", f"{sum(f.sent for f in full.files) / 1e6:.2f} MB in {len(full.files)} files, unpacked "
                       f"{sum(f.unpacked for f in full.files) / 1e6:.2f} MB")
    return full


def tokens(args: argparse.Namespace) -> None:
    from bench.page.moving import noting, token_delays

    questions = [q.text for q in held_out(args.questions + 1)]
    with served() as page, chromium() as browser:
        waits = first_tokens(browser.new_page(viewport={"width": 1440, "height": 900}, locale="zh-CN"), page.url,
                             questions)
    row(f"Enter to first token on the screen, median of {len(waits)}",
        f"{statistics.median(waits):.0f} ms, slowest {max(waits):.0f} ms", "< 300 ms")
    with noting() as (url, engine), chromium() as browser:
        found = token_delays(browser, url, engine, questions)
    row(f"a token made to the same on the screen, median of {len(found)}",
        f"{statistics.median(found):.0f} ms, 95% within {share(found, 0.95):.0f} ms, slowest {max(found):.0f} ms",
        "≤ 50 ms")


def columns(args: argparse.Namespace) -> None:
    from bench.page.moving import COLUMNS, LENGTH, noting, scrolling

    with noting() as (url, _), chromium() as browser:
        found = scrolling(browser, url, held_out(1)[0].text)
    row(f"longest task while {COLUMNS} columns of {LENGTH} tokens are scrolled",
        f"{found.scrolling:.0f} ms; while they are written {found.writing:.0f} ms", "≤ 100 ms")


def crowded(args: argparse.Namespace) -> None:
    with served() as page:
        waits = crowd(page.url, [q.text for q in held_out(args.visitors)])
    row(f"first token, {len(waits)} of {args.visitors} visitors at once, slowest",
        f"{max(waits):.2f} s, median {statistics.median(waits):.2f} s", "≤ 3 s")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.page", description="What a visitor meets in the browser.")
    parser.add_argument("--rounds", type=int, default=3, help="starts, and openings over a slow line (default: 3)")
    parser.add_argument("--questions", type=int, default=20)
    parser.add_argument("--visitors", type=int, default=20)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    args = parser.parse_args(argv)
    wait_passively()  # before torch is loaded
    print("| | measured | target |\n| --- | --- | --- |", flush=True)
    measures = {"start": start, "opening": opened, "tokens": tokens, "columns": columns, "crowd": crowded}
    found = {part: measures[part](args) for part in PARTS if part in args.only}
    if full := found.get("opening"):
        print("\n| file | sent | unpacked |\n| --- | --- | --- |")
        for file in full.files:
            row(f"`{file.name}`", f"{file.sent / 1000:.0f} kB", f"{file.unpacked / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
