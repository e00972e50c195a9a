"""The Compare tab's controls: laid out, and read back as what was asked."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from compare.page.shared import request as limits
from compare.page.shared.request import FIRST_INSTRUCTION, FIRST_QUESTION, ComparisonRequest


@dataclass(frozen=True)
class Controls:
    """The components whose values make a `ComparisonRequest`, in its field order."""

    question: gr.Textbox
    instruction: gr.Textbox
    on: gr.Checkbox
    extras: gr.State
    max_new_tokens: gr.Slider
    temperature: gr.Slider
    top_p: gr.Slider
    seed: gr.Number

    @property
    def all(self) -> list:
        return list(vars(self).values())

    @staticmethod
    def read(question, instruction, on, extras, max_new_tokens, temperature, top_p, seed) -> ComparisonRequest:
        """The values, as Gradio hands them over."""
        return ComparisonRequest(question or "", instruction or "", bool(on), tuple(extras or ()), int(max_new_tokens),
                                 temperature, top_p, int(seed or 0))


def ask_bar(has_adapter: bool) -> tuple[gr.Textbox, gr.Checkbox, gr.Button, gr.Button]:
    with gr.Row(elem_classes="lens-ask", equal_height=True):
        question = gr.Textbox(FIRST_QUESTION, label="问题", placeholder="用中文问一个问题", lines=1, max_lines=6,
                              scale=8, autofocus=True, elem_id="question", container=False)
        on = gr.Checkbox(has_adapter, label="适配器", elem_id="switch", interactive=has_adapter, container=False,
                         scale=0, min_width=120)
        ask = gr.Button("提问", variant="primary", scale=0, min_width=96, elem_id="ask")
        stop = gr.Button("停止", variant="stop", scale=0, min_width=96, elem_id="stop")
    return question, on, ask, stop


@dataclass(frozen=True)
class NewColumn:
    """What adds a further column: an adapter at a strength, or the base asked in plain text."""

    fold: gr.Accordion
    adapter: gr.Dropdown
    strength: gr.Slider
    add: gr.Button
    plain: gr.Button


def settings(question, on, extras, adapters: list[str]) -> tuple[Controls, NewColumn]:
    """Below the result: settings in view; folded away, the instruction and what adds a column of these adapters."""
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
            instruction = gr.Textbox(FIRST_INSTRUCTION, label="指令", elem_id="instruction")
        with gr.Accordion("再加一列：换适配器或提示", open=False, elem_id="more") as fold:
            adapter = gr.Dropdown(adapters, value=next(iter(adapters), None), label="哪个适配器",
                                  visible=len(adapters) > 1, elem_id="more-adapter")
            strength = gr.Slider(*limits.STRENGTHS, 0.5, step=0.1, label="适配器强度", elem_id="strength",
                                 info="0 是原模型，1 是训练所得，其余是外推")
            add = gr.Button("＋ 加一列", size="sm", elem_id="add")
            plain = gr.Button("＋ 加一列原模型，不套对话格式", size="sm", elem_id="add-plain")
    controls = Controls(question, instruction, on, extras, length, temperature, top_p, seed)
    return controls, NewColumn(fold, adapter, strength, add, plain)
