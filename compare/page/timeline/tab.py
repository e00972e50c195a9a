"""The Timeline tab: one question put to every checkpoint of a training at several strengths, all in one batch."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import gradio as gr

from compare.engine.answers import compare
from compare.engine.interface import Engine, Question, Sampling
from compare.page.shared import held_out
from compare.page.shared.column_list import first_adapter
from compare.page.shared.examples import first_question, heldout_file, questions_of
from compare.page.shared.loss_curve import read_losses
from compare.page.shared.request import FIRST_QUESTION
from compare.page.shared.templates import draw, picker, read, tab_piece
from compare.page.shared.updates import notify, paced, updates
from compare.page.timeline.checkpoint_grid import LENGTH, Checkpoint, CheckpointGrid
from compare.server.running_answers import Run

CHECKPOINT = re.compile(r"(?:^|-)(?:step|checkpoint)-(\d+)$")  # the name of an adapter that is one
AT_ONCE = 2  # grids under way at once; more visitors wait in Gradio's queue
KEYWORDS = ("1920年5月", "6月7日", "10213", "李昌")  # a held-out question that asks for each is offered


def checkpoints(engine: Engine) -> list[Checkpoint]:
    """The loaded adapters that are checkpoints of one training, by step; the first adapter is its end."""
    found = {name: int(match[1]) for name in engine.adapters if (match := CHECKPOINT.search(name))}
    final = first_adapter(engine)
    if final and final.name not in found:
        found = {name: step for name, step in found.items() if not final.step or step < final.step}
        found[final.name] = final.step or max(found.values(), default=0) + 1
    return sorted((Checkpoint(name, step) for name, step in found.items()), key=lambda c: c.step)


def offered(engine: Engine) -> list[str]:
    """Questions to begin with: of the embedded pair's held-out ones the shortest that asks for each of `KEYWORDS`, or
    the first of those that this page offers."""
    if own := questions_of(engine)[:len(KEYWORDS)]:
        return own
    rows = held_out.rows().values()
    on = [[row.input for row in rows if word in row.keywords] for word in KEYWORDS]
    return list(dict.fromkeys(min(some, key=len) for some in on if some)) or [FIRST_QUESTION]


@dataclass(frozen=True)
class Timeline:
    """A grid over an engine. The questions that the page offers are worked out once."""

    engine: Engine
    grid: CheckpointGrid
    offered: Sequence[str]
    known: dict[str, str] = field(default_factory=dict)

    def show(self, question: str) -> Iterator[str]:
        """The grid again and again while its answers grow."""
        yield from updates(lambda run: self.stream(question.strip(), run), notify)

    def stream(self, question: str, run: Run) -> Iterator[str]:
        if question in self.known:
            yield self.known[question]
            return
        row, html = held_out.rows(self.grid.heldout).get(question), ""
        put = Question(question, row.instruction if row else first_question(self.engine)[1])
        for columns in paced(compare(self.engine, put, self.grid.variants, Sampling(LENGTH), run.cancelled)):
            html = self.grid.draw(question, columns)
            yield html
        if question in self.offered:
            self.known[question] = html

    def pick(self, question: str) -> str:
        """The question of a chip, or any held-out one."""
        return question or getattr(held_out.any_row(file=self.grid.heldout), "input", self.offered[0])


def build(engine: Engine) -> None:
    """Lay the tab out inside the current Blocks."""
    tab_piece("timeline", draw("timeline/view", "heading"))
    final = first_adapter(engine)
    if not final:
        tab_piece("timeline", draw("timeline/view", "no_adapter"))
        return
    grid = CheckpointGrid(checkpoints(engine), read_losses(final.path), heldout_file(engine))
    questions = offered(engine)
    timeline = Timeline(engine, grid, questions)
    if len(grid.checkpoints) == 1:
        tab_piece("timeline", draw("timeline/view", "no_checkpoints"))
    with gr.Row(equal_height=True, elem_classes="lens-ask"):
        question = gr.Textbox(questions[0], label="问题", show_label=False, container=False, lines=1, max_lines=4,
                              scale=6, elem_id="timeline-question")
        ask = gr.Button("问遍每一步", variant="primary", scale=1, min_width=150, elem_id="timeline-ask")
    others = picker(draw("timeline/view", "chips", questions=questions), elem_classes=["lens-own", "lens-timeline"])
    view = tab_piece("timeline", grid.draw(questions[0]), js_on_load=read("timeline/tab.js", "shared/opened.js"),
                     elem_id="timeline-view")
    show = {"fn": timeline.show, "inputs": question, "outputs": view, "api_visibility": "private",
            "concurrency_limit": AT_ONCE, "concurrency_id": "timeline", "show_progress": "hidden",
            "trigger_mode": "always_last"}
    first = view.opened(**show)  # tab.js sends it when the view is first seen
    asked = gr.on([ask.click, question.submit], **show, cancels=[first])
    picked = others.pick(timeline.pick, others, question, cancels=[first, asked], queue=False,
                         api_visibility="private", show_progress="hidden")
    picked.then(**show)
