"""The Compare tab: one question, the base answer beside the adapted one, streaming from one batch.

Lays out the tab and joins its controls to the answers; what a result looks like is result.html.jinja's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import gradio as gr

from compare.engine.interface import Engine
from compare.page.compare.answering import Answering
from compare.page.compare.controls import Controls, ask_bar, settings
from compare.page.compare.result import draw_result, result_piece
from compare.page.shared import held_out, loaded
from compare.page.shared import request as limits
from compare.page.shared.api import endpoint
from compare.page.shared.request import ComparisonRequest, first_adapter
from compare.page.shared.templates import draw, picker
from compare.page.shared.words import Words
from compare.server.endpoint import Endpoint
from lens.errors import Unavailable

# The strength as it stands in the field: Gradio hears of a number that was typed a moment later than of the press.
TYPED = """(extras, strength, adapter) =>
  [extras, Number(document.querySelector('#strength input[type=number]')?.value ?? strength), adapter]"""
AT_ONCE = 20  # answers under way at once; more visitors wait in Gradio's queue, which tells them their place


def build(page: gr.Blocks, engine: Engine, answered: list | None, endpoints: Sequence[Endpoint] = ()) -> Controls:
    """Lay the tab out inside `page`. `answered`: the first question's columns, shown when it opens."""
    answering = Answering(engine, loaded.facts(engine), endpoints=endpoints)
    question, on, ask, stop = ask_bar(bool(engine.adapters))
    drawn = (draw_result(ComparisonRequest(), answered, answering.loaded, precomputed=True) if answered
             else draw("compare/result", "nothing"))
    result = result_piece(drawn)
    with gr.Row(elem_classes="lens-try"):
        chips = picker(draw("compare/examples", "examples"), elem_id="examples")
        random = gr.Button("随机抽一道没练过的题", size="sm", elem_id="lucky", visible=bool(held_out.every_row()))
    controls, more = settings(question, on, gr.State([]), list(engine.adapters))
    wire(page, answering, controls, result, (ask, stop, chips, random, more))
    return controls


def with_plain(extras: list) -> list:
    """The further columns with that of the base in plain text as the last."""
    return [*(extra for extra in extras if extra != limits.PLAIN_COLUMN), limits.PLAIN_COLUMN]


def without(extras: list, event: gr.EventData) -> list:
    """The further columns without the one whose sign was pressed."""
    return [extra for i, extra in enumerate(extras) if i != event.index]


def random_question() -> tuple[str, str]:
    row = held_out.any_row(off_topic=True)
    return (row.input, row.instruction) if row else (limits.FIRST_QUESTION, limits.FIRST_INSTRUCTION)


def wire(page: gr.Blocks, answering: Answering, controls: Controls, result: gr.HTML, buttons: tuple) -> None:
    """Join the controls to the engine."""
    ask, stop, chips, random, more = buttons

    def answer(request: gr.Request, *values) -> Iterator[str]:
        yield from answering.page(Controls.read(*values), request)

    def with_adapter(extras: list, strength: float, adapter: str | None) -> list:
        low, high = limits.STRENGTHS
        held, first = min(max(strength, low), high), first_adapter(answering.engine)
        if first is None:
            gr.Info(str(Words.of(Unavailable("page-without-adapter"))))
            return extras
        return [*extras, held if adapter in (None, "", first.name) else f"{adapter}@{held:g}"]

    def choices() -> gr.Dropdown:
        names = list(answering.engine.adapters)  # a training adds to them while the page is open
        return gr.Dropdown(names, visible=len(names) > 1)

    def end(request: gr.Request) -> None:
        answering.runs.stop(request.session_hash or "")

    def follow(request: gr.Request) -> Iterator[list]:
        """A link's question, settings and answer; nothing where the address asks nothing."""
        asked = ComparisonRequest.from_link(dict(request.query_params))
        unchanged = [gr.skip()] * len(controls.all)
        if asked is None:
            yield [*unchanged, gr.skip()]
            return
        asked = replace(asked, on=asked.on and bool(answering.engine.adapters))
        yield [*vars(asked).values(), gr.skip()]
        for drawing in answering.page(asked, request):
            yield [*unchanged, drawing]

    quiet = {"api_visibility": "private", "show_progress": "hidden"}
    asking = {"fn": answer, "inputs": controls.all, "outputs": result, "concurrency_limit": AT_ONCE,
              "concurrency_id": "answers", "show_progress": "minimal", "trigger_mode": "multiple",
              "api_visibility": "private"}
    gr.on([ask.click, controls.question.submit, controls.on.input], **asking)
    chips.pick(lambda text: text, chips, controls.question, queue=False, **quiet).then(**asking)
    random.click(random_question, None, [controls.question, controls.instruction], queue=False, **quiet).then(**asking)
    more.add.click(with_adapter, [controls.extras, more.strength, more.adapter], controls.extras, js=TYPED,
                   queue=False, **quiet).then(**asking)
    more.plain.click(with_plain, controls.extras, controls.extras, queue=False, **quiet).then(**asking)
    gr.on([more.fold.expand, more.adapter.focus], choices, None, more.adapter, queue=False, **quiet)
    result.dismiss(without, controls.extras, controls.extras, queue=False, **quiet).then(**asking)
    stop.click(end, None, None, queue=False, **quiet)
    # A line of its own: who only opens the page has nothing to wait for.
    page.load(follow, None, [*controls.all, result], concurrency_limit=AT_ONCE, concurrency_id="links",
              show_progress="minimal", show_progress_on=result, api_visibility="private")
    endpoint(answering.compare, dict, concurrency_limit=AT_ONCE, concurrency_id="answers")
