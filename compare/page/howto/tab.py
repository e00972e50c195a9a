"""The How it works tab: LoRA explained on the loaded model, for someone who has never heard of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import gradio as gr
from markupsafe import Markup

from compare.engine.answers import Column, compare
from compare.engine.interface import BASE, Engine, LoadedAdapter, Question, Sampling, Variant
from compare.page.howto.lora_drawing import LARGEST_RANK, draw_explorer
from compare.page.shared.answer_column import repeats
from compare.page.shared.column_list import first_adapter
from compare.page.shared.examples import first_question, questions_of
from compare.page.shared.model_sizes import EMBEDDED, RANK, SIZES, Shape, human, memory, share, table_shapes
from compare.page.shared.templates import draw, picker, read, tab_piece
from compare.page.shared.updates import notify, paced, updates
from compare.server.running_answers import Run

QUESTIONS = ("哈尔滨工业大学的校训是什么？", "哈工大有多少杰出人才", "哈工大首任校长是谁？")
STRENGTHS = tuple(i / 4 for i in range(9))  # 0 to 2
AS_TRAINED = STRENGTHS.index(1.0)
LENGTH = 32  # tokens an answer may have


def rank_and_modules(adapter: LoadedAdapter | None, shape: Shape) -> tuple[int, list[str]]:
    """Of the adapter where the explorer can show them, else the original experiment's rank on what is usual."""
    if not adapter:
        return RANK, list(shape.usual)
    return min(adapter.r, LARGEST_RANK), list(adapter.files.modules)


def size_row(shape: Shape, loaded: Shape) -> dict[str, object]:
    """One line of the table of sizes."""
    lora = shape.lora()
    needed = {name: human(size) for name, size in vars(memory(shape.parameters, lora)).items()}
    return {"name": shape.name, "embedded": shape == EMBEDDED, "layers": shape.n_layer, "hidden": shape.hidden_size,
            "here": (shape.hidden_size, shape.n_layer, shape.is_bloom) == (
                loaded.hidden_size, loaded.n_layer, loaded.is_bloom), "lora": lora,
            "parameters": shape.parameters, "share": f"{share(lora, shape.parameters):.2%}", **needed}


def draw_sizes(loaded: Shape) -> Markup:
    """The BLOOM sizes with LoRA of rank 8 on query_key_value; all of it computed."""
    example = size_row(next(s for s in SIZES if s.name == "bloom-7b1"), loaded)
    return draw("howto/view", "sizes", rows=[size_row(s, loaded) for s in table_shapes(loaded)], example=example,
                other=None if loaded.is_bloom else loaded)


def draw_strengths(question: str, columns: Sequence | None = None) -> Markup:
    """The answers at all strengths; a short answer that repeats itself counts as a loop."""
    answers = [{"strength": strength, "text": column.text.strip(),
                "ended": "loop" if repeats(column) else column.finish_reason}
               for strength, column in zip(STRENGTHS, columns or [Column(BASE)] * len(STRENGTHS), strict=True)]
    return draw("howto/view", "strengths", question=question, answers=answers, as_trained=AS_TRAINED, length=LENGTH)


def answering(engine: Engine, adapter: LoadedAdapter):
    """The event function: a question → its answers at all strengths, while they grow. The page's own are kept."""
    known: dict[str, str] = {}
    questions, instruction = offered(engine), first_question(engine)[1]
    variants = [BASE, *(Variant.of(adapter.name, strength) for strength in STRENGTHS[1:])]

    def stream(question: str, run: Run) -> Iterator[str]:
        if question in known:
            yield known[question]
            return
        drawn, put = "", Question(question, instruction)
        for columns in paced(compare(engine, put, variants, Sampling(LENGTH), run.cancelled)):
            drawn = draw_strengths(question, columns)
            yield drawn
        if question in questions:
            known[question] = drawn

    def answer(question: str) -> Iterator[str]:
        yield from updates(lambda run: stream(question, run), notify)

    return answer


def offered(engine: Engine) -> tuple[str, ...]:
    """The questions to turn: the embedded pair's, or the first of those that this page offers."""
    return tuple(questions_of(engine)[:len(QUESTIONS)]) or QUESTIONS


def strength_section(engine: Engine, adapter: LoadedAdapter) -> None:
    """The question, its answers at rising strengths, and what fills them: a press, or the first look."""
    questions = offered(engine)
    with gr.Row(equal_height=True, elem_classes="lens-ask"):
        question = gr.Textbox(questions[0], label="问题", show_label=False, container=False, lines=1, max_lines=4,
                              scale=6, elem_id="howto-question")
        ask = gr.Button("看它转变", variant="primary", scale=1, min_width=150, elem_id="howto-ask")
    chips = draw("howto/view", "chips", questions=questions)
    others = picker(chips, elem_classes=["lens-own", "lens-howto"])
    view = tab_piece("howto", draw_strengths(questions[0]), js_on_load=read("howto/strengths.js", "shared/opened.js"),
                     elem_id="howto-ladder")
    answer = answering(engine, adapter)
    quiet = {"api_visibility": "private", "concurrency_limit": 4, "concurrency_id": "howto",
             "show_progress": "hidden", "trigger_mode": "always_last"}
    first = view.opened(answer, question, view, **quiet)  # strengths.js sends it when the answers are first seen
    asked = gr.on([ask.click, question.submit], answer, question, view, cancels=[first], **quiet)
    picked = others.pick(lambda text: text, others, question, cancels=[first, asked], queue=False,
                         api_visibility="private")
    picked.then(answer, question, view, **quiet)


def build(engine: Engine) -> None:
    """Lay the tab out inside the current Blocks."""
    known, adapter = engine.facts, first_adapter(engine)
    shape = Shape.of(known)
    tab_piece("howto", draw("howto/view", "heading") + draw_explorer(shape, known.parameters,
                                                                     *rank_and_modules(adapter, shape)),
              js_on_load=read("howto/lora_drawing.js"), elem_id="howto-explorer")
    tab_piece("howto", draw("howto/view", "strengths_heading"))
    if adapter:
        strength_section(engine, adapter)
    else:
        tab_piece("howto", draw("howto/view", "no_adapter"))
    tab_piece("howto", draw_sizes(shape), elem_id="howto-sizes")
    tab_piece("howto", draw("howto/cards", "cards", bloom=shape.is_bloom, instruct=known.own_template,
                            end=known.end_token), elem_id="howto-cards")
