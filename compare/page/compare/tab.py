"""The Compare tab: one question, the base answer beside the adapted one, streaming from one batch.

Lays out the tab and joins its controls to the answers; what a result looks like is result.html.jinja's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from urllib.parse import parse_qsl

import gradio as gr

from compare.engine.interface import Engine
from compare.page.compare.answering import Answering
from compare.page.compare.controls import Controls, as_json, ask_bar, column_fold, columns_in, settings
from compare.page.compare.result import result_piece
from compare.page.shared import held_out, loaded
from compare.page.shared import request as limits
from compare.page.shared.api import endpoint
from compare.page.shared.column_list import shown_columns
from compare.page.shared.examples import first_question, groups, heldout_file
from compare.page.shared.request import ComparisonRequest
from compare.page.shared.templates import draw, picker, piece, read
from compare.server.endpoint import Endpoint
from lens.errors import LensError

# The query that kept.js put aside where the address says so.
KEPT = "() => [new URLSearchParams(location.search).has('kept') && sessionStorage.getItem('lens-asked') || '']"
# The last input is when the visitor asked: what follows on one another's heels may overtake it on the way.
ASKED_AT = "(...values) => [...values.slice(0, -1), performance.now()]"
AT_ONCE = 20  # answers under way at once; more visitors wait in Gradio's queue, which tells them their place


def build(page: gr.Blocks, engine: Engine, answered: list | None, endpoints: Sequence[Endpoint] = ()) -> Controls:
    """Lay the tab out inside `page`. `answered`: the first question's columns, shown when it opens."""
    first, heldout = first_question(engine), heldout_file(engine)
    answering = Answering(engine, loaded.facts(engine), endpoints=endpoints, usual=first[1], heldout=heldout)
    question, on, ask, stop = ask_bar(first[0], bool(engine.adapters))
    drawn = (answering.draw(ComparisonRequest(*first), answered, precomputed=True) if answered
             else draw("compare/result", "nothing"))
    result = result_piece(drawn)
    with gr.Row(elem_classes="lens-try"):
        chips = picker(draw("compare/examples", "examples", own=groups(engine)), elem_id="examples")
        random = gr.Button("随机抽一道没练过的题", size="sm", elem_id="lucky",
                           visible=bool(held_out.every_row(heldout)))
    controls = settings(question, on, column_fold(engine), first[1])
    wire(page, answering, controls, result, (ask, stop, chips, random), kept_address(engine, controls))
    return controls


def kept_address(engine: Engine, controls: Controls) -> gr.HTML:
    """What a visitor sets stands in the address at once, so that a reload finds it. Its value is the query."""
    fresh = ComparisonRequest(*first_question(engine))
    kept = piece(html_template=f'<i data-longest="{limits.LONGEST_LINK}"></i>', js_on_load=read("compare/kept.js"),
                 visible="hidden", elem_id="kept")

    def query(*values) -> str:
        try:
            asked = Controls.read(engine, *values)
        except LensError:  # told where it is asked
            return gr.skip()
        return "" if asked == fresh else asked.query(fresh.instruction)

    gr.on([control.change for control in controls.all], query, controls.all, kept, queue=False,
          trigger_mode="always_last", api_visibility="private", show_progress="hidden")
    return kept


def without(columns: str, event: gr.EventData) -> str:
    """The columns without the one whose sign was pressed."""
    return as_json([column for i, column in enumerate(columns_in(columns)) if i != event.index])


def random_question(engine: Engine) -> tuple[str, str]:
    row = held_out.any_row(off_topic=True, file=heldout_file(engine))
    return (row.input, row.instruction) if row else first_question(engine)


def wire(page: gr.Blocks, answering: Answering, controls: Controls, result: gr.HTML, buttons: tuple,
         kept: gr.HTML) -> None:
    """Join the controls to the engine."""
    ask, stop, chips, random = buttons
    engine = answering.engine

    asked_at = gr.Number(visible=False)

    def answer(request: gr.Request, *values) -> Iterator[str]:
        yield from answering.page(lambda: Controls.read(engine, *values[:-1]), request, asked_at=values[-1])

    def end(request: gr.Request) -> None:
        answering.runs.stop(request.session_hash or "")

    def follow(kept: str, request: gr.Request) -> Iterator[list]:
        """The address's question, settings and answer; nothing where it asks nothing. `kept`: what an address cannot
        hold, from this tab of the browser."""
        params = dict(parse_qsl(kept, keep_blank_values=True)) or dict(request.query_params)
        asked = ComparisonRequest.from_link(params, shown_columns(engine), first_question(engine)[1])
        unchanged = [gr.skip()] * len(controls.all)
        if asked is None:
            yield [*unchanged, gr.skip()]
            return
        yield [*Controls.values(engine, asked), gr.skip()]
        if asked.question.strip():
            for drawing in answering.page(lambda: asked, request):
                yield [*unchanged, drawing]

    quiet = {"api_visibility": "private", "show_progress": "hidden"}
    asking = {"fn": answer, "inputs": [*controls.all, asked_at], "outputs": result, "js": ASKED_AT,
              "concurrency_limit": AT_ONCE, "concurrency_id": "answers", "show_progress": "minimal",
              "trigger_mode": "multiple", "api_visibility": "private"}
    gr.on([ask.click, controls.question.submit, controls.on.input, controls.columns.input], **asking)
    chips.pick(lambda text: text, chips, controls.question, queue=False, **quiet).then(**asking)
    random.click(lambda: random_question(engine), None, [controls.question, controls.instruction], queue=False,
                 **quiet).then(**asking)
    result.dismiss(without, controls.columns, controls.columns, queue=False, **quiet).then(**asking)
    stop.click(end, None, None, queue=False, **quiet)
    # A line of its own: who only opens the page has nothing to wait for.
    page.load(follow, kept, [*controls.all, result], js=KEPT, concurrency_limit=AT_ONCE, concurrency_id="links",
              show_progress="minimal", show_progress_on=result, api_visibility="private")
    endpoint(answering.compare, dict, concurrency_limit=AT_ONCE, concurrency_id="answers")

