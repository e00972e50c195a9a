"""One tab of the page alone in headless Chromium, and an engine without a model, for the tests of single tabs."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace

import gradio as gr

from compare.analysis.layer_map import LayerMap, Part
from compare.analysis.token_text import Piece
from compare.engine.answers import Column
from compare.engine.interface import BASE, Asked, Ended, Facts, Grown, Load, LoadedAdapter, Shape, Step, Variant
from compare.models.receipt import Receipt
from compare.page.page import hand_over
from compare.page.shared.model_sizes import EMBEDDED

WAIT = 30_000  # ms
WIDTH = 390  # a phone's
END = 2
FACTS = Facts("base", "base", "cpu", "float32", EMBEDDED.parameters, 2048, Shape(8064, 256, 6, 8),
              linears=EMBEDDED.linears)


class Characters:
    """A tokenizer whose tokens are characters."""

    end_id = END

    def decode(self, ids) -> str:
        return "".join(map(chr, ids))

    def spell(self, ids) -> list[Piece]:
        return [Piece(chr(i), b"") for i in ids]


def column(text: str, reason: str | None = "stop", variant: Variant = BASE, seconds: float = 1.0) -> Column:
    """An answer, a token a character."""
    return Column(variant, Characters().decode, [ord(c) for c in text], reason, seconds)


def loaded(name: str, path: Path = Path("nowhere"), step: int | None = None, shown: bool = True) -> LoadedAdapter:
    settings = SimpleNamespace(r=8, target_modules=("query_key_value",))
    files = SimpleNamespace(name=name, path=path, sha256="0" * 64, base_sha256=None, r=8, settings=settings,
                            modules=settings.target_modules, parameters=24_576)
    proof = Receipt(name, "0" * 64, 8, 24, 48, 0, 24, 20.5, 1e-5, True)
    return LoadedAdapter(files, proof, shown, step)


class StandInEngine:
    """An engine without a model. `says`: (question, variant) → (its answer, why it ends); `error` ends it instead."""

    facts, tokens, abilities, notes = FACTS, Characters(), frozenset(), ()

    def __init__(self, *adapters: LoadedAdapter, says=lambda question, variant: (variant.name, "stop")):
        self.adapters: Mapping[str, LoadedAdapter] = {a.name: a for a in adapters}
        self.says, self.error, self.asked = says, None, []
        self.cancelled = threading.Event()
        self.state, self.restarts = "running", 0

    def variants(self, strengths=(1.0,)):
        return [BASE, *(Variant.of(a.name, s) for a in self.adapters.values() if a.shown for s in strengths)]

    def ask(self, questions, variants=None, sampling=None, cancelled=None):
        [question], variants = questions, list(variants or self.variants())
        if self.error:
            raise self.error
        self.asked.append((question.text, question.instruction, variants, sampling))
        self.cancelled.clear()
        try:
            yield Asked(0, tuple(variants), ((1,),) * len(variants))
            yield Step(0, ())
            grown: list[Grown] = []
            for i, variant in enumerate(variants):
                text, reason = self.says(question.text, variant)
                grown += [*(Grown(i, ord(c)) for c in text), Grown(i, None, None, reason)]
            yield Step(0, tuple(grown))
            yield Ended(0)
        finally:
            self.cancelled.set()  # as the engine: leaving the iterator cancels

    def prompts(self, question, variants, sampling):
        return [[1]] * len(variants)

    def layer_map(self, given):
        return LayerMap(given.variant.name, len(given.answer_ids), -2.0, -1.0, (Part(0, "mlp", 1.0, 1.0),))

    def load(self) -> Load:
        return Load(0, 1, 2, self.state, self.restarts)


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
