"""Answers for the page, as HTML while they grow, and for the API, as dictionaries."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any

import gradio as gr
from markupsafe import Markup

from compare.engine.answers import Column, compare
from compare.engine.interface import RANGES, Engine, Question, Sampling, Variant
from compare.page.compare.result import draw_result
from compare.page.shared.api import error_as_answer
from compare.page.shared.column_list import columns_asked, columns_of
from compare.page.shared.held_out import HELDOUT
from compare.page.shared.request import FIRST_INSTRUCTION, ComparisonRequest, checked_texts
from compare.page.shared.templates import draw
from compare.page.shared.updates import BETWEEN, paced, updates
from compare.server.endpoint import Endpoint
from compare.server.running_answers import Run, Runs
from lens.errors import BadQuestion, BadSetting, LensError


def draw_error(error: LensError) -> Markup:
    return draw("compare/result", "error", error=error)


@dataclass(frozen=True)
class Answering:
    """Answers questions over one engine. `loaded`: name → value of what is loaded, for the downloads; `endpoints`:
    other programs' servers, which are asked the same; `usual`: the page's own instruction; `heldout`: the file of
    questions whose right answers are known."""

    engine: Engine
    loaded: dict
    runs: Runs = field(default_factory=Runs)
    endpoints: Sequence[Endpoint] = ()
    usual: str = FIRST_INSTRUCTION
    heldout: Path = HELDOUT

    def draw(self, asked: ComparisonRequest, columns: Sequence[Column], **how: Any) -> Markup:
        return draw_result(asked, columns, self.loaded, usual=self.usual, heldout=self.heldout,
                           end=self.engine.facts.end_token, **how)

    def stream(self, asked: ComparisonRequest, run: Run) -> Iterator[Markup]:
        """Drawings of the answer, the first at once."""
        if not asked.question.strip():
            raise BadQuestion("no-question-yet")
        variants, sampling = asked.variants(self.engine), asked.sampling
        question, left = Question(asked.question, asked.instruction), Event()
        columns: Sequence[Column] = [Column(v) for v in variants]
        beside = [endpoint.ask(question, sampling, left) for endpoint in self.endpoints]
        try:
            yield self.draw(asked, columns, beside=beside)
            for columns in paced(compare(self.engine, question, variants, sampling, run.cancelled), run):
                yield self.draw(asked, columns, beside=beside)
            if beside and not any(c.finish_reason == "cancelled" for c in columns):
                run.cancelled.clear()  # the engine sets it when it is done; from here on it is the visitor's Stop
                while not all(c.over for c in beside) and not run.superseded and not run.cancelled.wait(BETWEEN):
                    yield self.draw(asked, columns, beside=beside)
        finally:
            left.set()
        if beside and not run.superseded:
            for column in beside:
                column.finish_reason = column.finish_reason or (None if column.error else "cancelled")
            yield self.draw(asked, columns, beside=beside)

    def page(self, asked: Callable[[], ComparisonRequest], request: gr.Request,
             asked_at: float | None = None) -> Iterator[Markup]:
        """For one visitor, whose earlier answer ends and whose Stop ends this one. `asked` may raise LensError."""
        yield from updates(lambda run: self.stream(asked(), run), draw_error, self.runs, request, asked_at)

    def variants(self, strengths: object, columns: object) -> list[Variant]:
        """What a program asked for: all adapters at some strengths, or column by column. Raises LensError."""
        if columns is not None and strengths is not None:
            raise BadSetting("columns-beside", name="strengths")
        if columns is not None:
            return columns_asked(self.engine, columns)
        if not isinstance(strengths, list | None):
            raise BadSetting("list-expected", name="strengths", value=repr(strengths)[:80])
        for strength in strengths or []:
            RANGES["strength"].check("strength", strength)
        return columns_of(self.engine.variants([1.0] if strengths is None else strengths))

    @error_as_answer
    def compare(self, question: str, instruction: str = "", strengths: list[float] | None = None,
                max_new_tokens: int = 128, temperature: float = 0.0, top_p: float = 1.0,
                seed: int = 0, columns: list[dict] | None = None) -> Iterator[dict]:
        """Answer a question with the base model and with its LoRA adapters at one or more strengths, side by side.

        Args:
            question: what is asked
            instruction: a system turn before the question
            strengths: how strongly the adapters act, a column each, from -10 to 10; 0 is the base (default: 1)
            max_new_tokens: the longest an answer may be, 1 to 4096
            temperature: 0 for the likeliest token always, up to 10
            top_p: draw only from the likeliest part, 0.01 to 1
            seed: of sampling, the same luck for all columns
            columns: instead of `strengths`, what each column shows, in order: {"adapter": a name from `adapters` or
                null for the base, "strength": number, "prompt": "chat" or "plain", "layers": such as "3-5" and
                "modules": such as "attention", where alone the adapter is on, "name": of the column}; at most 64
        Returns:
            `question`, `instruction` and `columns` as asked (else base first), each with its `text`, why it stopped
            (`finish_reason`), `tokens` and the other fields of `python -m compare --json`; what cannot be answered
            is {"error": {"code", "message", "message_zh"}}
        """
        put = Question(*checked_texts(question=question, instruction=instruction))
        variants = self.variants(strengths, columns)
        asked = Sampling(max_new_tokens, temperature, top_p, seed)
        for grown in compare(self.engine, put, variants, asked):
            yield {"question": put.text, "instruction": put.instruction, "columns": [c.as_dict() for c in grown]}
