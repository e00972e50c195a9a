"""How the page moves: how soon a token is on the screen after it was made, and whether twelve long columns scroll.

The page is served in this process, over an engine that notes when each token is made: both clocks are the system's.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from urllib.parse import urlencode

from playwright.sync_api import Browser, Page

from bench.page.opening import WATCH_TASKS
from bench.shared.served import free_port
from compare.engine.interface import EngineEvent, Step
from compare.engine.local import LocalEngine
from compare.engine.open_question import OpenQuestion
from compare.page import page as whole_page
from compare.server.launch import Serving
from lens.embedded import EMBEDDED_ADAPTER, EMBEDDED_BASE

WATCHED = 1  # the column that is watched, the adapted one
COLUMNS, LENGTH, HEAT = 12, 512, 2.0  # so hot that hardly any answer ends by itself
PATIENCE = 240_000  # ms
# Keeps [seconds since the epoch, characters] of the adapted column whenever its newest answer has been painted anew: a
# task that is put behind a frame's callbacks runs after that frame was drawn.
WATCH_TEXT = """() => {
  window.painted = [];
  const clock = () => (performance.timeOrigin + performance.now()) / 1000;
  const after = (done) => requestAnimationFrame(() => { const { port1, port2 } = new MessageChannel();
    port1.onmessage = done; port2.postMessage(0); });
  new MutationObserver(() => {
    const length = document.querySelector("#adapted .lens-answer")?.dataset.text.length;
    if (!length) painted.length = 0;
    else after(() => painted.push([clock(), length]));
  }).observe(document.querySelector("#result"), { subtree: true, attributes: true, childList: true });
}"""
FINISHED = """(count) => document.querySelectorAll(".lens-col").length === count
  && !document.querySelector("[data-state=writing]")"""


class NotingEngine(LocalEngine):
    """The embedded pair; `made` has the time and the id of each token of the watched column."""

    def __init__(self) -> None:
        super().__init__(EMBEDDED_BASE, EMBEDDED_ADAPTER)
        self.made: list[tuple[float, int]] = []

    def begin(self, question: OpenQuestion) -> None:
        tell = question.tell

        def note(event: EngineEvent) -> None:
            now = time.time()
            if isinstance(event, Step):
                self.made += [(now, one.token) for one in event.grown
                              if one.column == WATCHED and one.token is not None]
            tell(event)

        question.tell = note
        super().begin(question)


@dataclass(frozen=True)
class Scrolling:
    """Milliseconds of the longest task while the columns were written, and while they were scrolled afterwards."""

    writing: float
    scrolling: float


@contextlib.contextmanager
def noting() -> Iterator[tuple[str, NotingEngine]]:
    """(address, engine) of the page in this process."""
    engine = NotingEngine()
    blocks = whole_page.build(engine)
    Serving(port=free_port()).launch(blocks, engine, prevent_thread_lock=True, quiet=True)
    try:
        yield blocks.local_url, engine
    finally:
        blocks.close()
        engine.close()


def delays(made: Sequence[tuple[float, int]], painted: Sequence[tuple[float, int]]) -> list[float]:
    """Milliseconds from the making of each token that shows to the first painting that has it. `made`, `painted`:
    (seconds, characters of the answer by then), each in order; what was never painted as it grew is left out, and the
    answer before, which stood there until this one began."""
    began = max((i + 1 for i, (one, other) in enumerate(pairwise(painted)) if other[1] < one[1]), default=0)
    found, shown, before = [], iter(painted[began:]), 0
    at = next(shown, None)
    for when, length in made:
        while at and at[1] < length:
            at = next(shown, None)
        if at is None:
            break
        if length > before:
            found.append(1000 * (at[0] - when))
        before = max(before, length)
    return found


def token_delays(browser: Browser, url: str, engine: NotingEngine, questions: Sequence[str]) -> list[float]:
    """Of every token of the adapted answers but the first answer's, which warms up."""
    page, found = opened(browser, f"{url}?{urlencode({'q': questions[0], 'n': 128, 't': HEAT})}", 2), []
    page.evaluate(WATCH_TEXT)
    for question in questions[1:]:
        engine.made.clear()
        page.locator("#question textarea").fill(question)
        page.wait_for_timeout(300)
        page.evaluate("painted.length = 0")
        page.locator("#question textarea").press("Enter")
        while not engine.made:
            page.wait_for_timeout(5)
        page.wait_for_timeout(100)  # the answer before, which is finished, stands there a moment longer
        page.wait_for_function(FINISHED, arg=2, timeout=PATIENCE)
        ids = [token for _, token in engine.made]
        lengths = [len(engine.tokens.decode(ids[:n + 1]).rstrip("\ufffd")) for n in range(len(ids))]
        found += delays([(when, n) for (when, _), n in zip(engine.made, lengths, strict=True)],
                        page.evaluate("painted"))
    page.context.close()
    return found


def opened(browser: Browser, address: str, columns: int) -> Page:
    """A fresh visitor's page, once so many columns are finished."""
    page = browser.new_context(viewport={"width": 1440, "height": 900}, locale="zh-CN").new_page()
    page.add_init_script(WATCH_TASKS)
    page.goto(address)
    page.wait_for_function(FINISHED, arg=columns, timeout=PATIENCE)
    return page


def scrolling(browser: Browser, url: str, question: str) -> Scrolling:
    """Twelve columns of 512 tokens: written, then scrolled, the page and each column, to their ends and back."""
    columns = ";".join(f"lens~{1 + n / 20:g}" for n in range(COLUMNS - 1))
    page = opened(browser, f"{url}?{urlencode({'q': question, 'n': LENGTH, 't': HEAT, 'c': columns})}", COLUMNS)
    writing = longest_task(page)
    for way in (1, -1):
        for answer in page.locator("#result .lens-answer").all():
            answer.hover()
            wheel(page, way)
        page.mouse.move(4, 450)
        wheel(page, way)
    found = Scrolling(writing, longest_task(page))
    page.context.close()
    return found


def longest_task(page: Page) -> float:
    """Of those since it was asked last."""
    page.wait_for_timeout(500)  # the observer is told a moment later
    return max((end - start for start, end in page.evaluate("longTasks.splice(0)")), default=0.0)


def wheel(page: Page, way: int) -> None:
    for _ in range(12):
        page.mouse.wheel(0, way * 240)
        page.wait_for_timeout(30)
