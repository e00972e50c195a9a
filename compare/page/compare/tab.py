"""The Compare tab: one question, the base answer beside the adapted one, streaming from one batch.

Lays out the tab and joins its controls to the answers; what a result looks like is result.py's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import gradio as gr

from compare.page.compare.answering import Answering
from compare.page.compare.controls import Controls, ask_bar, asked_from, settings
from compare.page.compare.result import draw_nothing
from compare.page.shared import examples
from compare.page.shared import held_out as heldout
from compare.page.shared import question as limits
from compare.page.shared.api import endpoint
from compare.page.shared.html import own, picker, read
from compare.page.shared.loaded import NO_ADAPTER, Loaded
from compare.page.shared.question import Asked
from compare.server.running_answers import Runs

# The strength as it stands in the field: Gradio hears of a number that was typed a moment later than of the press.
TYPED = """(extras, strength, adapter) =>
  [extras, Number(document.querySelector('#strength input[type=number]')?.value ?? strength), adapter]"""
AT_ONCE = 20  # answers under way at once; more visitors wait in Gradio's queue, which tells them their place


def build(page: gr.Blocks, engine, answered: list | None) -> Controls:
    """Lay the tab out inside `page`. `answered`: the first question's columns, shown when it opens."""
    answering = Answering(engine, Runs(), Loaded(engine).facts)
    extras = gr.State([])
    question, on, ask, stop = ask_bar(engine.files is not None)
    drawn = answering.draw(Asked(), answered, precomputed=True) if answered else draw_nothing()
    result = own(drawn, js_on_load=read("compare/result.js"), elem_id="result")
    with gr.Row(elem_classes="lens-try"):
        chips = picker(examples.chips(), elem_id="examples")
        lucky = gr.Button("随机抽一道没练过的题", size="sm", elem_id="lucky", visible=bool(heldout.every_row()))
    controls, more = settings(question, on, extras, list(engine.adapters))
    wire(page, answering, controls, result, (ask, stop, chips, lucky, more))
    return controls


def plain_too(extras: list) -> list:
    """The further columns with that of the base in plain text as the last."""
    return [*(extra for extra in extras if extra != limits.PLAIN), limits.PLAIN][-limits.MOST_EXTRAS:]


def one_less(extras: list, event: gr.EventData) -> list:
    """The further columns without the one whose sign was pressed."""
    return [extra for i, extra in enumerate(extras) if i != event.index]


def lucky_question() -> tuple[str, str]:
    row = heldout.any_row(off_topic=True)
    return (row.input, row.instruction) if row else (limits.FIRST_QUESTION, limits.FIRST_INSTRUCTION)


def wire(page: gr.Blocks, answering: Answering, controls: Controls, result: gr.HTML, buttons: tuple) -> None:
    """Join the controls to the engine."""
    ask, stop, chips, lucky, more = buttons

    def answer(request: gr.Request, *values) -> Iterator[str]:
        yield from answering.page(asked_from(*values), request)

    def one_more(extras: list, strength: float, adapter: str | None) -> list:
        low, high = limits.STRENGTHS
        held, name = min(max(strength, low), high), adapter or next(iter(answering.engine.adapters), None)
        if name is None:
            gr.Info(NO_ADAPTER.text())
            return extras
        return [*extras, held if name in answering.engine.shown[:1] else f"{name}@{held:g}"][-limits.MOST_EXTRAS:]

    def choices() -> gr.Dropdown:
        names = list(answering.engine.adapters)  # a training adds to them while the page is open
        return gr.Dropdown(names, visible=len(names) > 1)

    def end(request: gr.Request) -> None:
        answering.runs.stop(request.session_hash or "")

    def follow(request: gr.Request) -> Iterator[list]:
        """A link's question, settings and answer; nothing where the address asks nothing."""
        asked = Asked.from_link(dict(request.query_params))
        unchanged = [gr.skip()] * len(controls.all)
        if asked is None:
            yield [*unchanged, gr.skip()]
            return
        asked = replace(asked, on=asked.on and answering.engine.files is not None)
        yield [*vars(asked).values(), gr.skip()]
        for drawing in answering.page(asked, request):
            yield [*unchanged, drawing]

    quiet = {"api_visibility": "private", "show_progress": "hidden"}
    asking = {"fn": answer, "inputs": controls.all, "outputs": result, "concurrency_limit": AT_ONCE,
              "concurrency_id": "answers", "show_progress": "minimal", "trigger_mode": "multiple",
              "api_visibility": "private"}
    gr.on([ask.click, controls.question.submit, controls.on.input], **asking)
    chips.pick(lambda text: text, chips, controls.question, queue=False, **quiet).then(**asking)
    lucky.click(lucky_question, None, [controls.question, controls.instruction], queue=False, **quiet).then(**asking)
    more.add.click(one_more, [controls.extras, more.strength, more.adapter], controls.extras, js=TYPED, queue=False,
                   **quiet).then(**asking)
    more.plain.click(plain_too, controls.extras, controls.extras, queue=False, **quiet).then(**asking)
    gr.on([more.fold.expand, more.adapter.focus], choices, None, more.adapter, queue=False, **quiet)
    result.dismiss(one_less, controls.extras, controls.extras, queue=False, **quiet).then(**asking)
    stop.click(end, None, None, queue=False, **quiet)
    # A line of its own: who only opens the page has nothing to wait for.
    page.load(follow, None, [*controls.all, result], concurrency_limit=AT_ONCE, concurrency_id="links",
              show_progress="minimal", show_progress_on=result, api_visibility="private")
    endpoint(answering.compare, dict, concurrency_limit=AT_ONCE, concurrency_id="answers")
