"""The whole page: the headline, the tabs, what is loaded."""

from __future__ import annotations

import json
from html import escape

import gradio as gr

from compare.page.blind import tab as blind
from compare.page.changed import tab as changed
from compare.page.compare import tab as compare
from compare.page.howto import tab as howto
from compare.page.report import tab as reported
from compare.page.shared import api as programs
from compare.page.shared import words
from compare.page.shared.html import own, read
from compare.page.shared.loaded import Loaded
from compare.page.shared.theme import THEME
from compare.page.shared.words import Words
from compare.page.timeline import tab as timeline
from compare.page.training import tab as training

__all__ = ["THEME", "build", "head"]
TABS = {changed: "改变了什么", timeline: "时间线", training: "训练", reported: "报告", blind: "盲测", howto: "原理"}
HEADLINE = Words("一份模型，两种回答", "One model, two answers")
CAPTION = Words(
    "这里证明的是：同一份权重、同一个提示、同样的随机数，只差适配器，回答就不同。"
    "这里不证明：适配器总是更好，或它说的都对。一个问题不是评测。",
    "What this shows: with the same weights, prompt and random numbers, the adapter alone makes the difference. "
    "What it does not show: that the adapter is better in general, or that what it says is true. "
    "One question is no benchmark.")
MARK = ('<svg viewBox="0 0 32 32" width="30" height="30" fill="none" stroke-width="3" aria-hidden="true">'
        '<circle cx="12.5" cy="16" r="9" stroke="var(--lens-base)"/>'
        '<circle cx="19.5" cy="16" r="9" stroke="var(--lens-adapted)"/></svg>')
DIM = Words("浅色或深色", "Light or dark")


def head() -> str:
    """Style and language, in place before the first paint."""
    labels = dict(words.LABELS)
    for tab in TABS:
        labels |= tab.LABELS
    return (f"<style>{read('shared/style.css')}</style>"
            f"<script>const LABELS = {json.dumps(labels, ensure_ascii=False)};\n{read('shared/language.js')}</script>")


def banner(loaded: Loaded) -> str:
    """Name, switches and headline."""
    speak = "".join(f'<button type="button" data-speak="{code}" lang="{lang}">{name}</button>'
                    for code, lang, name in (("zh", "zh-CN", "中文"), ("en", "en", "English")))
    dim = f'<button type="button" data-dim="" aria-label="{escape(DIM.text())}" title="{escape(DIM.text())}">◐</button>'
    return (f'<header class="lens-banner"><div class="lens-brand">{MARK}<span>LoRA Lens</span></div>'
            f'<div class="lens-switches"><div role="group" aria-label="语言 · Language">{speak}</div>{dim}</div>'
            f'</header>'
            f'<div class="lens-hero"><h1>{HEADLINE.html()}</h1><p>{loaded.headline()}</p></div>')


def hand_over(tab: gr.Tab, controls, inputs) -> None:
    """What was asked under Compare is what another tab with a question opens with, and answers."""
    tab.select(lambda *asked: asked, [controls.question, controls.instruction], [inputs.question, inputs.instruction],
               queue=False, show_progress="hidden", api_visibility="private").then(**inputs.show)


def build(engine, answered: list | None = None, shop=None) -> gr.Blocks:
    """The page over one engine. `answered`: the first question's columns, shown when it opens; `shop`: the trainings
    (workshop.py), where they are open."""
    loaded = Loaded(engine)
    with gr.Blocks(title="LoRA Lens", analytics_enabled=False, fill_width=True) as page:
        own(banner(loaded))
        with gr.Tabs(elem_id="tabs"):
            with gr.Tab("并排比较", id="compare"):
                controls = compare.build(page, engine, answered)
                own(f'<p class="lens-caption">{CAPTION.html()}</p>')
            for tab, label in TABS.items():
                with gr.Tab(label, id=tab.__name__.split(".")[-2]) as shown:
                    inputs = tab.build(engine, shop) if tab is training else tab.build(engine)
                if inputs:
                    hand_over(shown, controls, inputs)
        programs.offer(engine)
        own(loaded.chips(), elem_id="loaded")
        with gr.Accordion("换成你自己的模型", open=False, elem_id="own"):
            own(loaded.own())
    return page
