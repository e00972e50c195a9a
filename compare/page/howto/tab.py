"""The How it works tab: LoRA explained on the loaded model, for someone who has never heard of it.

Asks the engine for its shape and for one question's answers at rising strengths; knows no torch.
The words are Chinese and English, each in a span of its own, of which the page's language switch shows one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from html import escape

import gradio as gr

from compare.engine.interface import Sampling
from compare.page.howto.lora_drawing import LARGEST_RANK, explorer
from compare.page.shared.answer_column import repeats
from compare.page.shared.error_text import Told
from compare.page.shared.examples import chip
from compare.page.shared.html import own, picker, read
from compare.page.shared.model_sizes import (
    EMBEDDED,
    QUERY_KEY_VALUE,
    RANK,
    SIZES,
    Shape,
    human,
    loaded_shape,
    memory,
    share,
    table_shapes,
)
from compare.page.shared.question import FIRST_INSTRUCTION, LONGEST_TEXT
from compare.page.shared.words import both, heading
from lens.errors import LensError

OWN = ["lens-own", "lens-howto"]
section = partial(own, css_template=read("shared/tab.css", "howto/tab.css"), elem_classes=OWN)
QUESTIONS = ("哈尔滨工业大学的校训是什么？", "哈工大有多少杰出人才", "哈工大首任校长是谁？")
STRENGTHS = tuple(i / 4 for i in range(9))  # 0 to 2
AS_TRAINED = STRENGTHS.index(1.0)
LENGTH = 32  # tokens an answer may have
MARKS = {0.0: ("原模型", "base"), 1.0: ("训练时", "as trained")}
ENDED = {"stop": ("✓", "自己说完", "ended by itself"),
         "length": ("✂", f"写满 {LENGTH} 个 token", f"cut at {LENGTH} tokens"),
         "loop": ("↻", "翻来覆去", "repeats itself"), "cancelled": ("■", "已停止", "stopped"),
         None: ("…", "正在写", "writing")}
LABELS = {"看它转变": "Watch it turn"}  # what Gradio draws, for the page's language switch

HEADS = (("层", "Layers", ""), ("宽度", "Hidden size", ""),
         ("参数", "Parameters", "vocabulary·d + layers·(12d² + 13d) + 4d"),
         ("LoRA 参数", "LoRA", "r·(d + 3d)·layers"), ("占比", "Share", "LoRA / (base + LoRA)"),
         ("训练：全部", "Train: all", "16 bytes × parameters"),
         ("训练：LoRA", "Train: LoRA", "2 bytes × base + 16 bytes × LoRA"),
         ("服务：两份", "Serve: two copies", "2 × 2 bytes × base"),
         ("服务：一份", "Serve: one copy", "2 bytes × (base + LoRA)"))
NOTES = (("<b>参数</b> = 词表·d + 层数·(12d² + 13d) + 4d；<b>LoRA</b> = r·(d + 3d)·层数；d 是宽度。",
          "<b>Parameters</b> = vocabulary·d + layers·(12d² + 13d) + 4d; <b>LoRA</b> = r·(d + 3d)·layers; "
          "d is the hidden size."),
         ("<b>训练</b>：每个在学的参数要 16 字节（权重 4、梯度 4、Adam 的两个动量 8）；冻结的底座每个参数只要 2 字节。",
          "<b>Train</b>: a parameter that learns takes 16 bytes (weight 4, gradient 4, Adam's two moments 8); "
          "a frozen one takes 2."),
         ("<b>服务</b>：两份 = 原模型和合并后的模型各一份；一份 = 一个底座加旁路，像本页这样。每个参数按 2 字节算。",
          "<b>Serve</b>: two copies = the base and a merged model; one copy = one base with the bypass, as on this "
          "page. 2 bytes a parameter."),
         ("激活值、logits 和缓存不计，它们随批量和长度变。1 GB = 10⁹ 字节。",
          "Activations, logits and cache are left out: they depend on batch and length. 1 GB = 10⁹ bytes."))


def loaded_adapter(engine) -> tuple[int, list[str]]:
    """Rank and modules of the loaded adapter where the explorer can show them, else the original experiment's."""
    try:
        return min(engine.files.r, LARGEST_RANK), list(engine.files.modules)
    except AttributeError:
        return RANK, list(QUERY_KEY_VALUE)


def table(loaded: Shape) -> str:
    """The BLOOM sizes with LoRA of rank 8 on query_key_value; all of it computed."""
    rows = []
    for s in table_shapes(loaded):
        lora, here = s.lora(), (s.hidden_size, s.n_layer) == (loaded.hidden_size, loaded.n_layer)
        m = memory(s.parameters, lora)
        name = both("内嵌", "embedded") if s == EMBEDDED else f"<code>{escape(s.name)}</code>"
        badge = f' <em>{both("已加载", "loaded")}</em>' if here else ""
        cells = (s.n_layer, f"{s.hidden_size:,}", f"{s.parameters:,}", f"{lora:,}",
                 f"<b>{share(lora, s.parameters):.2%}</b>", human(m.train_all), f"<b>{human(m.train_lora)}</b>",
                 human(m.serve_two), f"<b>{human(m.serve_one)}</b>")
        rows.append(f'<tr{" class=here" if here else ""}><th scope="row">{name}{badge}</th>'
                    + "".join(f"<td>{c}</td>" for c in cells) + "</tr>")
    head = "".join(f'<th scope="col"><span title="{t}">{both(z, e)}</span></th>' for z, e, t in HEADS)
    fine = "".join(f"<li>{both(z, e)}</li>" for z, e in NOTES)
    big = next(s for s in SIZES if s.name == "bloom-7b1")
    m, part = memory(big.parameters, big.lora()), f"{share(big.lora(), big.parameters):.2%}"
    before, after = human(m.train_all), human(m.train_lora)
    lead = heading("换成大模型呢？", "And on a bigger model?",
                   f"模型越大越划算：在 7b1 上只训练 {part} 的参数，训练内存从 {before} 降到 {after}。",
                   f"The bigger the model, the better the bargain: on 7b1 it trains {part} of the parameters, "
                   f"in {after} instead of {before}.")
    stamp = both("r = 8，只接 query_key_value。算出来的，不是测出来的",
                 "r = 8 on query_key_value. Computed, not measured")
    return f"""{lead}<p class="stamp">{stamp}</p>
<div class="scroll" tabindex="0" role="region" aria-label="BLOOM 各尺寸 · BLOOM sizes"><table>
<thead><tr><th scope="col">{both("模型", "Model")}</th>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>
<ul class="fine">{fine}</ul>"""


def ending(column) -> str | None:
    """The key of ENDED for a column: a short answer that repeats itself counts as a loop."""
    if column and repeats(column):
        return "loop"
    return column.finish_reason if column else None


def rung(index: int, column, trained: str) -> str:
    """One strength of the ladder as a button; `column` None before there is an answer, `trained` strength 1's."""
    strength, reason = STRENGTHS[index], ending(column)
    sign, zh, en = ENDED[reason]
    text = column.text.strip() if column else ""
    mark = both(*MARKS[strength]) if strength in MARKS else ""
    same = " data-same" if text and text == trained else ""
    return (f'<li><button type="button" data-i="{index}" aria-pressed="{str(index == AS_TRAINED).lower()}"{same}>'
            f'<b>{strength:g}</b><small>{mark}</small><span class="said">{escape(text) or "…"}</span>'
            f'<span class="why" data-why="{reason}">{sign} {both(zh, en)}</span></button></li>')


def ladder(question: str, columns: Sequence | None = None) -> str:
    """The answers at all strengths, one of them large under a slider. All text of others is escaped."""
    now = columns[AS_TRAINED].text.strip() if columns else ""
    rungs = "".join(rung(i, columns[i] if columns else None, now) for i in range(len(STRENGTHS)))
    scale = "".join(f"<span>{s:g}</span>" if s * 2 % 1 == 0 else "<span></span>" for s in STRENGTHS)
    return f"""<div class="ladder"><div class="stage"><p class="asked">{escape(question)}</p>
<output class="now" for="lens-strength" aria-live="off" data-side="adapted">{escape(now) or "…"}</output>
<div class="control"><label for="lens-strength">{both("强度", "Strength")} <i>s</i> × <b data-now>1</b>
<span data-mark></span></label>
<input id="lens-strength" type="range" min="0" max="{len(STRENGTHS) - 1}" step="1" value="{AS_TRAINED}"
 aria-valuetext="1">
<div class="scale" aria-hidden="true">{scale}</div></div></div><ol>{rungs}</ol></div>"""


def turning(engine):
    """The event function: a question → the ladder, again after every token. The page's own questions are kept."""
    known: dict[str, str] = {}
    variants = [v for v in engine.variants(STRENGTHS[1:]) if v.adapter in (None, engine.files.name)]

    def turn(question: str) -> Iterator[str]:
        if question in known:
            yield known[question]
            return
        drawn = ""
        try:
            for columns in engine.compare(question, FIRST_INSTRUCTION, variants, Sampling(LENGTH)):
                drawn = ladder(question, columns)
                yield drawn
            if question in QUESTIONS:
                known[question] = drawn
        except LensError as err:
            raise gr.Error(Told.of(err).text(), title="请检查 Please check", print_exception=False) from err

    return turn


def strength_section(engine) -> None:
    """The question, its answers at rising strengths, and what fills them: a press, or the first look."""
    with gr.Row(equal_height=True, elem_classes="lens-ask"):
        question = gr.Textbox(QUESTIONS[0], label="问题", show_label=False, container=False, lines=1, max_lines=4,
                              scale=6, max_length=LONGEST_TEXT, elem_id="howto-question")
        ask = gr.Button("看它转变", variant="primary", scale=1, min_width=150, elem_id="howto-ask")
    others = picker(f'<div class="lens-chips">{"".join(map(chip, QUESTIONS))}</div>', elem_classes=OWN)
    view = section(ladder(QUESTIONS[0]), js_on_load=read("howto/strength_ladder.js", "shared/opened.js"),
                   elem_id="howto-ladder")
    turn = turning(engine)
    quiet = {"api_visibility": "private", "concurrency_limit": 4, "concurrency_id": "howto",
             "show_progress": "hidden", "trigger_mode": "always_last"}
    first = view.opened(turn, question, view, **quiet)  # ladder.js sends it when the ladder is first seen
    asked = gr.on([ask.click, question.submit], turn, question, view, cancels=[first], **quiet)
    picked = others.pick(lambda text: text, others, question, cancels=[first, asked], queue=False,
                         api_visibility="private")
    picked.then(turn, question, view, **quiet)


def build(engine) -> None:
    """Lay the tab out inside the current Blocks."""
    shape = loaded_shape(engine.base_name, engine.model.config)
    section(heading("LoRA：大模型不动，只在旁边学一点点", "LoRA: leave the big model alone, learn a little beside it",
                    "拖动 r，看看“一点点”有多小。", "Move r and see how little a little is.")
            + explorer(shape, engine.parameters, *loaded_adapter(engine)),
            js_on_load=read("howto/lora_drawing.js"), elem_id="howto-explorer")
    section(heading("拧动强度，看一个回答转变", "Turn the strength, watch one answer change",
                    "同一个问题，同一个批次，九种强度：0 是原模型，1 是训练好的样子，再大就过头了。",
                    "One question, one batch, nine strengths: 0 is the base, 1 is as trained, beyond it is too much."))
    if engine.files:
        strength_section(engine)
    else:
        words = both("没有加载适配器，没有什么可以拧。用 <code>--adapter</code> 加载一个。",
                     "No adapter is loaded, so there is nothing to turn. Load one with <code>--adapter</code>.")
        section(f'<p class="empty">{words}</p>')
    section(table(shape), elem_id="howto-sizes")
    section(read("howto/cards.html"), elem_id="howto-cards")
