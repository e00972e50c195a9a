"""Answers for the page, as HTML while they grow, and for the API, as dictionaries."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import gradio as gr

from compare.engine.interface import PLAIN, Variant
from compare.page.compare.result import draw_error, draw_result
from compare.page.shared import question as limits
from compare.page.shared import words
from compare.page.shared.answer_column import Waiting
from compare.page.shared.error_text import Told
from compare.page.shared.question import Asked
from compare.questions import Question
from compare.server.running_answers import Run, Runs
from lens.errors import BadQuestion, LensError

if TYPE_CHECKING:  # the page is given its engine, and loads none
    from compare.engine.engine import Engine

BETWEEN = 1 / 15  # seconds between two drawings of one answer


@dataclass(frozen=True)
class Answering:
    """Answers questions over one engine, as HTML for the page and as dictionaries for the API."""

    engine: Engine
    runs: Runs
    loaded: dict

    def decode(self, ids) -> str:
        return self.engine.tokenizer.decode(ids, skip_special_tokens=True)

    def draw(self, asked: Asked, columns, precomputed: bool = False) -> str:
        return draw_result(asked, columns, self.decode, self.loaded, precomputed)

    def variants(self, asked: Asked) -> list:
        """The columns asked for, base first. Raises BadQuestion for an adapter that is not loaded."""
        more = [v for extra in asked.extras for v in self.further(extra)][:limits.MOST_EXTRAS]
        first = self.engine.variants([1.0 if asked.on else 0.0])
        return [*first[:limits.MOST_COLUMNS - len(more)], *more]

    def further(self, extra: float | str) -> list[Variant]:
        """The column of one of `Asked.extras`; none for a strength where no adapter is loaded."""
        if extra == limits.PLAIN:
            return [PLAIN]
        if not isinstance(extra, str):
            return [Variant.of(name, extra) for name in self.engine.shown[:1]]
        name, _, strength = extra.rpartition("@")
        if name not in self.engine.adapters:
            raise BadQuestion(f"adapter is {name[:120]!r}; allowed: {', '.join(self.engine.adapters) or 'none loaded'}")
        return [Variant.of(name, limits.bounded(strength, 1.0, limits.STRENGTHS))]

    def stream(self, asked: Asked, run: Run) -> Iterator[str]:
        """Drawings of the answer, the first at once, then at most 15 a second, and the last one."""
        drawn = 0.0
        if not asked.question.strip():
            yield draw_error(words.NO_QUESTION)
            return
        try:
            variants = self.variants(asked)
            stream = self.engine.compare(asked.question, asked.instruction, variants, asked.sampling, run.cancelled)
            yield self.draw(asked, [Waiting(v) for v in variants])
            for columns in stream:
                if run.superseded:
                    return
                if all(c.finish_reason for c in columns) or time.monotonic() - drawn >= BETWEEN:
                    drawn = time.monotonic()
                    yield self.draw(asked, columns)
        except LensError as err:
            yield draw_error(Told.of(err))
        except Exception:
            yield draw_error(words.BROKEN)
            raise

    def page(self, asked: Asked, request: gr.Request) -> Iterator[str]:
        """For one visitor, whose earlier answer ends and whose Stop ends this one."""
        visit = request.session_hash or ""
        run = self.runs.begin(visit)
        try:
            yield from self.stream(asked, run)
        finally:
            self.runs.end(visit, run)

    def compare(self, question: str, instruction: str = "", strengths: list[float] | None = None,
                max_new_tokens: int = 128, temperature: float = 0.0, top_p: float = 1.0,
                seed: int = 0) -> Iterator[dict]:
        """Answer a question with the base model and with its LoRA adapter at one or more strengths, side by side.

        Args:
            question: what is asked
            instruction: a system turn before the question
            strengths: how strongly the adapter acts, a column each, from -0.5 to 2; 0 is the base (default: 1)
            max_new_tokens: the longest an answer may be, 1 to 4096
            temperature: 0 for the likeliest token always, up to 10
            top_p: draw only from the likeliest part, 0.01 to 1
            seed: of sampling, the same luck for all columns
        Returns:
            `question`, `instruction` and `columns`, base first, each with its `text`, why it stopped
            (`finish_reason`), `tokens` and the other fields of `python -m compare --json`
        """
        wanted = [1.0] if strengths is None else strengths
        put = Question(question, instruction)  # no half characters, which JSON cannot carry back
        try:
            variants = self.engine.variants(wanted)
            if len(variants) > limits.MOST_COLUMNS:
                raise BadQuestion(f"strengths are {len(wanted)}; allowed: at most {limits.MOST_COLUMNS} columns in all")
            if bad := [s for s in wanted if not limits.STRENGTHS[0] <= s <= limits.STRENGTHS[1]]:
                raise BadQuestion(f"strength is {bad[0]}; allowed: {limits.STRENGTHS[0]} to {limits.STRENGTHS[1]}")
            sampling = Asked("", "", True, (), max_new_tokens, temperature, top_p, seed).sampling
            for columns in self.engine.compare(put.text, put.instruction, variants, sampling):
                yield {"question": put.text, "instruction": put.instruction, "columns": [c.as_dict() for c in columns]}
        except LensError as err:
            raise gr.Error(str(err), print_exception=False) from err
