"""The Compare tab's controls: laid out, and read back as what was asked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import gradio as gr

from compare.engine.interface import RANGES, Engine
from compare.engine.question import KINDS
from compare.page.shared import request as limits
from compare.page.shared.column_list import LONGEST_NAME, AskedColumn, shown_columns
from compare.page.shared.request import FIRST_QUESTION, ComparisonRequest
from compare.page.shared.templates import draw, piece, read
from lens.adapter.fit import LINEAR_LAYERS


def as_json(columns: Sequence[AskedColumn]) -> str:
    return json.dumps([column.as_dict() for column in columns], ensure_ascii=False)


def columns_in(text: str) -> list[AskedColumn]:
    """The columns of `as_json`, as the page sends them back. Raises LensError."""
    return [AskedColumn.read(column) for column in json.loads(text)]


@dataclass(frozen=True)
class Controls:
    """The components whose values make a `ComparisonRequest`, in its field order."""

    question: gr.Textbox
    instruction: gr.Textbox
    on: gr.Checkbox
    columns: gr.HTML
    max_new_tokens: gr.Slider
    temperature: gr.Slider
    top_p: gr.Slider
    seed: gr.Number

    @property
    def all(self) -> list:
        return list(vars(self).values())

    @staticmethod
    def read(engine: Engine, question, instruction, on, columns, max_new_tokens, temperature, top_p,
             seed) -> ComparisonRequest:
        """The values, as Gradio hands them over. Raises LensError."""
        listed = tuple(columns_in(columns))
        return ComparisonRequest(question or "", instruction or "", bool(on),
                                 None if listed == shown_columns(engine) else listed, int(max_new_tokens), temperature,
                                 top_p, int(seed or 0))

    @staticmethod
    def values(engine: Engine, asked: ComparisonRequest) -> list:
        """What `read` reads as this."""
        columns = shown_columns(engine) if asked.columns is None else asked.columns
        return list((vars(asked) | {"on": asked.on and bool(engine.adapters), "columns": as_json(columns)}).values())


def ask_bar(first: str, has_adapter: bool) -> tuple[gr.Textbox, gr.Checkbox, gr.Button, gr.Button]:
    # what comes with another adapter need not be Chinese
    hints = {"placeholder": "用中文问一个问题"} if first == FIRST_QUESTION else {"placeholder": "问一个问题"}
    with gr.Row(elem_classes="lens-ask", equal_height=True):
        question = gr.Textbox(first, label="问题", lines=1, max_lines=6, scale=8, autofocus=True, elem_id="question",
                              container=False, **hints)
        on = gr.Checkbox(has_adapter, label="适配器", elem_id="switch", interactive=has_adapter, container=False,
                         scale=0, min_width=120)
        ask = gr.Button("提问", variant="primary", scale=0, min_width=96, elem_id="ask")
        stop = gr.Button("停止", variant="stop", scale=0, min_width=96, elem_id="stop")
    return question, on, ask, stop


def column_fold(engine: Engine) -> gr.HTML:
    """The list of the columns beside the base, folded away."""
    def loaded_adapters(_: object) -> list[str]:  # Gradio hands over what the script sent: nothing
        return list(engine.adapters)

    with gr.Accordion("各列：适配器、强度、次序", open=False, elem_id="columns-fold"):
        allowed = RANGES["strength"]
        modules = [*KINDS, *(engine.facts.linears or LINEAR_LAYERS)]
        editor = draw("compare/columns", "editor", modules=modules, low=allowed.low, high=allowed.high,
                      longest=LONGEST_NAME)
        return piece(as_json(shown_columns(engine)), html_template=str(editor), elem_id="columns",
                     css_template=read("compare/columns.css"), js_on_load=read("compare/columns.js"),
                     server_functions=[loaded_adapters])


def settings(question, on, columns, instruction: str) -> Controls:
    """Below the columns: settings in view, the instruction folded away."""
    with gr.Row(elem_classes="lens-folds"):
        with gr.Accordion("设置：长度、温度、种子", open=True, elem_id="settings"):
            with gr.Row():
                length = gr.Slider(*limits.LENGTHS, 128, step=8, label="最大长度（token）", elem_id="length")
                temperature = gr.Slider(*limits.TEMPERATURES, 0, step=0.1, label="温度", elem_id="temperature",
                                        info="0：每步都取最可能的 token")
            with gr.Row():
                top_p = gr.Slider(*limits.TOP_PS, 1, step=0.05, label="top-p", elem_id="top-p",
                                  info="只从概率最大的一部分里抽")
                seed = gr.Number(0, label="随机种子", info="同一种子，同一结果", precision=0, minimum=limits.SEEDS[0],
                                 maximum=limits.SEEDS[1], elem_id="seed")
        with gr.Accordion("指令（系统）", open=False, elem_id="instruction-fold"):
            said = gr.Textbox(instruction, label="指令", elem_id="instruction")
    return Controls(question, said, on, columns, length, temperature, top_p, seed)
