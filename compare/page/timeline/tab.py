"""The Timeline tab: one question put to every checkpoint of a training at several strengths, all in one batch.

Finds the checkpoints among the engine's adapters, asks, and lets film.py draw. Words are Chinese and
English, of which the page's language switch shows one.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import gradio as gr

from compare.engine.interface import Sampling
from compare.page.shared import held_out as heldout
from compare.page.shared.error_text import Told
from compare.page.shared.examples import chip
from compare.page.shared.html import own, picker, read
from compare.page.shared.loss_curve import read_losses
from compare.page.shared.question import FIRST_INSTRUCTION, FIRST_QUESTION, LONGEST_TEXT
from compare.page.shared.words import both, heading
from compare.page.timeline.checkpoint_grid import LENGTH, Checkpoint, Film
from compare.report.report_settings import step_of
from lens.errors import LensError

if TYPE_CHECKING:  # the page is given its engine, and loads none
    from compare.engine.engine import Engine

OWN = ["lens-own", "lens-timeline"]
section = partial(own, css_template=read("shared/tab.css", "timeline/tab.css"), elem_classes=OWN)
JS = read("timeline/tab.js", "shared/opened.js")
CHECKPOINT = re.compile(r"(?:^|-)(?:step|checkpoint)-(\d+)$")  # the name of an adapter that is one
BETWEEN = 0.15  # seconds between two drawings
AT_ONCE = 2  # grids under way at once; more visitors wait in Gradio's queue
KEYWORDS = ("1920年5月", "6月7日", "10213", "李昌")  # a held-out question that asks for each is offered
LABELS = {"时间线": "Timeline", "问遍每一步": "Ask every step"}  # what Gradio draws, for the language switch
NO_ADAPTER = ("没有加载适配器，没有训练可放。用 <code>--adapter</code> 加载一个。",
              "No adapter is loaded, so there is no training to play. Load one with <code>--adapter</code>.")
NO_CHECKPOINTS = ("没有加载中途的检查点，只有开头和结尾。在 <code>--adapter</code> 后面再写上 "
                  "<code>checkpoint-N</code> 目录。",
                  "No checkpoint on the way is loaded, so there is only the beginning and the end. Add "
                  "<code>checkpoint-N</code> directories after <code>--adapter</code>.")


def checkpoints(engine) -> list[Checkpoint]:
    """The loaded adapters that are checkpoints of one training, by step; the first adapter is its end."""
    found = {name: int(match[1]) for name in engine.adapters if (match := CHECKPOINT.search(name))}
    final = engine.files
    if final.name not in found:
        known = step_of(final.path)
        found = {name: step for name, step in found.items() if not known or step < known}
        found[final.name] = known or max(found.values(), default=0) + 1
    return sorted((Checkpoint(name, step) for name, step in found.items()), key=lambda c: c.step)


def offered() -> list[str]:
    """Held-out questions to begin with, the shortest that asks for each of `KEYWORDS`."""
    rows = heldout.rows().values()
    on = [[row.input for row in rows if word in row.keywords] for word in KEYWORDS]
    return list(dict.fromkeys(min(some, key=len) for some in on if some)) or [FIRST_QUESTION]


def chips(questions: Sequence[str]) -> str:
    """Buttons that name their question in `data-question`; the last one names none: any."""
    known = "".join(map(chip, questions))
    lucky = (f'<button type="button" class="lens-chip" data-question=""><span>⚄ '
             f'{both("随机抽一道没练过的题", "A random question it never trained on")}</span></button>')
    return f'<div class="lens-chips"><div class="lens-group">{known}{lucky}</div></div>'


@dataclass(frozen=True)
class Playing:
    """A film over an engine. The questions that the page offers are worked out once."""

    engine: Engine
    film: Film
    offered: Sequence[str]
    known: dict[str, str] = field(default_factory=dict)

    def show(self, question: str) -> Iterator[str]:
        """The film again and again while its answers grow."""
        question = question.strip()
        if question in self.known:
            yield self.known[question]
            return
        drawn, row = 0.0, heldout.rows().get(question)
        instruction = row.instruction if row else FIRST_INSTRUCTION
        try:
            for columns in self.engine.compare(question, instruction, self.film.variants, Sampling(LENGTH)):
                if (done := all(c.finish_reason for c in columns)) or time.monotonic() - drawn >= BETWEEN:
                    drawn = time.monotonic()
                    html = self.film.draw(question, columns)
                    if done and question in self.offered:
                        self.known[question] = html
                    yield html
        except LensError as err:
            raise gr.Error(Told.of(err).text(), title="请检查 Please check", print_exception=False) from err

    def pick(self, question: str) -> str:
        """The question of a chip, or any held-out one."""
        return question or getattr(heldout.any_row(), "input", FIRST_QUESTION)


def build(engine) -> None:
    """Lay the tab out inside the current Blocks."""
    section(heading("看它一步步学会", "Watch it learn, step by step",
                    "同一个问题，问遍训练途中的每个检查点和几种强度，全在一个批次里。",
                    "One question to every checkpoint of the training, at several strengths, all in one batch."))
    if not engine.files:
        section(f'<p class="empty">{both(*NO_ADAPTER)}</p>')
        return
    film, questions = Film(checkpoints(engine), read_losses(engine.files.path)), offered()
    playing = Playing(engine, film, questions)
    if len(film.checkpoints) == 1:
        section(f'<p class="empty">{both(*NO_CHECKPOINTS)}</p>')
    with gr.Row(equal_height=True, elem_classes="lens-ask"):
        question = gr.Textbox(questions[0], label="问题", show_label=False, container=False, lines=1, max_lines=4,
                              scale=6, max_length=LONGEST_TEXT, elem_id="timeline-question")
        ask = gr.Button("问遍每一步", variant="primary", scale=1, min_width=150, elem_id="timeline-ask")
    others = picker(chips(questions), elem_classes=OWN)
    view = section(film.draw(questions[0]), js_on_load=JS, elem_id="timeline-view")
    show = {"fn": playing.show, "inputs": question, "outputs": view, "api_visibility": "private",
            "concurrency_limit": AT_ONCE, "concurrency_id": "timeline", "show_progress": "hidden",
            "trigger_mode": "always_last"}
    first = view.opened(**show)  # timeline.js sends it when the film is first seen
    asked = gr.on([ask.click, question.submit], **show, cancels=[first])
    picked = others.pick(playing.pick, others, question, cancels=[first, asked], queue=False, api_visibility="private",
                         show_progress="hidden")
    picked.then(**show)
