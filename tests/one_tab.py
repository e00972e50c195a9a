"""One tab of the page alone in headless Chromium, and a column without a model, for the tests of single tabs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import gradio as gr

from compare.analysis.repetition import find_loop
from compare.page.page import hand_over

WAIT = 30_000  # ms
WIDTH = 390  # a phone's


@dataclass
class Column:
    """What a tab reads of a column."""

    text: str
    finish_reason: str | None = "stop"
    token_ids: list[int] = field(default_factory=list)

    @property
    def loop(self):
        return find_loop(self.token_ids)


@contextlib.contextmanager
def opened(browser, build: Callable[[], object], ready: str) -> Iterator:
    """The tab that `build` lays out, behind another one and then in front, once the selector `ready` is there."""
    with gr.Blocks(title="tab", analytics_enabled=False) as blocks:
        with gr.Tab("first"):
            gr.Textbox(label="words")
        with gr.Tab("second") as tab:
            inputs = build()
        if inputs:  # as on the page, but it is handed its own question
            hand_over(tab, inputs, inputs)
    _, address, _ = blocks.queue().launch(prevent_thread_lock=True, quiet=True, ssr_mode=False, run_history=False)
    page = browser.new_page(viewport={"width": WIDTH, "height": 844})
    try:
        page.goto(address)
        page.get_by_role("tab", name="second").click()
        page.locator(ready).first.wait_for(timeout=WAIT)
        yield page
    finally:
        page.close()
        blocks.close()
