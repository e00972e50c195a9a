"""The whole page: the headline, the tabs, what is loaded."""

from __future__ import annotations

import json
from collections.abc import Mapping

import gradio as gr

from compare.engine.interface import Engine
from compare.page.blind import tab as blind
from compare.page.changed import tab as changed
from compare.page.compare import tab as compare
from compare.page.frame.words import labels
from compare.page.howto import tab as howto
from compare.page.loading import load_form
from compare.page.report import tab as report
from compare.page.shared import api, loaded
from compare.page.shared.templates import draw, piece, read
from compare.page.timeline import tab as timeline
from compare.page.training import tab as training

TABS = {changed: "改变了什么", timeline: "时间线", training: "训练", report: "报告", blind: "盲测", howto: "原理"}


def in_script(value: Mapping[str, str]) -> str:
    """JSON that a script can hold: an end tag in it would end the script."""
    return json.dumps(value, ensure_ascii=False).replace("</", "<\\/")


def head() -> str:
    """Style, language and the line on top of a page that is not well, in place before the first paint.

    notice.js asks `/health`, so that a page that was opened before says it too.
    """
    states = {state: draw("page", state) for state in ("restarted", "ended", "astray", "away")}
    return (f"<style>{read('frame/style.css', 'frame/notice.css')}</style>"
            f"<script>const LABELS = {in_script(labels())};\n{read('frame/language.js')}</script>"
            f"<script>(() => {{ const STATES = {in_script(states)};\n{read('frame/notice.js')} }})();</script>")


def hand_over(tab: gr.Tab, controls, inputs) -> None:
    """What was asked under Compare is what another tab with a question opens with, and answers."""
    tab.select(lambda *asked: asked, [controls.question, controls.instruction], [inputs.question, inputs.instruction],
               queue=False, show_progress="hidden", api_visibility="private").then(**inputs.show)


def build(engine: Engine, answered: list | None = None, trainings=None, endpoints=(), loading=None) -> gr.Blocks:
    """The page over one engine. `answered`: the first question's columns, shown when it opens; `trainings`: the
    server's (compare/server/trainings), where they are open; `endpoints`: other servers' columns (compare/server);
    `loading`: what loads adapters while it runs (compare/server/loading)."""
    with api.Page(title="LoRA Lens", analytics_enabled=False, fill_width=True) as page:
        piece(draw("page", "banner", **loaded.lora_share(engine)))
        with gr.Tabs(elem_id="tabs"):
            with gr.Tab("并排比较", id="compare"):
                controls = compare.build(page, engine, answered, endpoints)
                piece(draw("page", "caption", instruct=engine.facts.own_template))
            for tab, label in TABS.items():
                with gr.Tab(label, id=tab.__name__.split(".")[-2]) as shown:
                    inputs = tab.build(engine, trainings) if tab is training else tab.build(engine)
                if inputs:
                    hand_over(shown, controls, inputs)
        api.offer(engine)
        piece(draw("page", "loaded", facts=loaded.facts(engine), notes=engine.notes), elem_id="loaded")
        load_form.build(loading, engine.facts.family == "bloom")
    return page
