"""The Compare tab: one question, the base answer beside the adapted one, streaming from one batch."""

from __future__ import annotations

import html
import threading
from collections.abc import Iterator

import gradio as gr

from compare.errors import LensError
from compare.sampling import Sampling

FIRST_QUESTION, FIRST_INSTRUCTION = "哈工大有多少杰出人才", "请回答下面的问题"
EXAMPLES = {
    "校训 Motto": ["哈尔滨工业大学的校训是什么？", "规格严格的下一句是什么？"],
    "校史 History": ["哈尔滨工业大学是何时建立的？", "哈工大首任校长是谁？", "哈尔滨工业大学最早的校名是什么？"],
    "院系 Schools": ["哈工大电子信息方面的学院叫什么全名？", "哈工大能源方面的学院叫什么？"],
    "它不知道的 Unknown": ["清华大学的校训是什么？", "今天天气怎么样？"],
}
WHY = {
    "stop": ("✓ 自己结束 ended by itself", "it produced </s>, the end-of-sequence token"),
    "length": ("✂ 到长度上限被截断 cut at the maximum length", "max_new_tokens reached; </s> never came"),
    "cancelled": ("■ 已停止 stopped", "you pressed Stop"),
    None: ("… 生成中 writing", ""),
}


WRITING = f'<div class="lens-status"><span title="">{WHY[None][0]}</span></div>'


def status(column) -> str:
    """Why a column stopped and how it repeats, as escaped HTML."""
    words, hint = WHY[column.finish_reason]
    parts = [f'<span title="{html.escape(hint)}">{words}</span>', f"{len(column.token_ids)} tokens"]
    if column.seconds:
        parts.append(f"{len(column.token_ids) / column.seconds:.0f} tokens/s")
    if loop := column.loop:
        parts.append(f'<strong title="the tail is {loop.copies} copies of one pattern of {loop.period} tokens">'
                     f"↻ 循环 loop × {loop.copies}</strong>")
    return f'<div class="lens-status">{" · ".join(parts)}</div>'


def build(engine, answered: list | None) -> None:
    """Lay the tab out inside the current Blocks. `answered`: columns to show when the page opens."""
    adapter = engine.files.name if engine.files else None
    with gr.Row(equal_height=True):
        question = gr.Textbox(FIRST_QUESTION, label="问题 Question", lines=1, max_lines=6, scale=6, autofocus=True,
                              max_length=4000, elem_id="question", submit_btn=False)
        ask = gr.Button("提问 Ask", variant="primary", scale=1, elem_id="ask")
        stop = gr.Button("停止 Stop", variant="stop", scale=1, elem_id="stop")
    with gr.Row(equal_height=True):
        boxes, notes = [], []
        for i, title in enumerate(("原模型 Base", "适配后 Adapted")):
            with gr.Column(min_width=300):
                shown = answered[i] if answered else None
                boxes.append(gr.Textbox(shown.text if shown else "", label=title, lines=8, max_lines=16,
                                        buttons=["copy"], interactive=False, elem_id=("base", "adapted")[i]))
                notes.append(gr.HTML(status(shown) if shown else "", elem_id=("base-status", "adapted-status")[i]))
    with gr.Row():
        switch = gr.Checkbox(bool(adapter), label="适配器开 Adapter on", elem_id="switch", interactive=bool(adapter),
                             info="关掉它，右边就是原模型 · off: the right column is the base itself")
        length = gr.Slider(8, 512, 128, step=8, label="最大长度 Maximum length (tokens)", elem_id="length")
        temperature = gr.Slider(0, 2, 0, step=0.1, label="温度 Temperature", info="0: always the likeliest token")
    with gr.Accordion("指令 Instruction", open=False):
        instruction = gr.Textbox(FIRST_INSTRUCTION, label="系统 System turn", max_length=4000, elem_id="instruction")

    def compare(question: str, instruction: str, on: bool, max_new_tokens: int,
                temperature: float) -> Iterator[tuple[str, str, str, str]]:
        """Base and adapted answers to a Chinese question, each with why it stopped."""
        cancelled = threading.Event()
        pair = engine.variants([1.0 if on else 0.0])
        try:
            sampling = Sampling(int(max_new_tokens), float(temperature))
            stream = engine.compare(question, instruction, pair, sampling, cancelled)
            yield "", "", WRITING, WRITING
            for columns in stream:
                left, right = columns[0], columns[-1]
                yield left.text, right.text, status(left), status(right)
        except LensError as err:
            raise gr.Error(str(err), title="请检查 Please check", print_exception=False) from err
        finally:
            cancelled.set()

    event = gr.on([ask.click, question.submit, switch.input], compare,
                  [question, instruction, switch, length, temperature], [*boxes, *notes], api_name="compare",
                  concurrency_limit=8, show_progress="hidden", trigger_mode="always_last")
    events = [event]
    gr.Markdown("#### 试一试 Try one")
    with gr.Row():
        for group, questions in EXAMPLES.items():
            with gr.Column(min_width=220):
                gr.Markdown(f"**{group}**")
                for text in questions:
                    chosen = gr.Button(text, size="sm").click(lambda t=text: t, None, question, api_visibility="private")
                    events.append(chosen.then(compare, [question, instruction, switch, length, temperature],
                                              [*boxes, *notes], api_visibility="private", concurrency_limit=8,
                                              show_progress="hidden"))
    stop.click(None, cancels=events, api_visibility="private")
