"""The whole page: what is loaded on top, then the tabs."""

from __future__ import annotations

import gradio as gr

from compare.page import compare

CSS = """
.lens-status {font-size: .9rem; color: var(--body-text-color-subdued); min-height: 1.6em}
.lens-loaded code {overflow-wrap: anywhere}
"""
THEME = gr.themes.Soft(primary_hue="indigo")


def loaded(engine) -> str:
    """One line of Markdown: base, adapter, device, dtype."""
    adapter = f"`{engine.files.name}` (r={engine.files.r}, sha256 `{engine.files.sha256[:12]}`)" if engine.files else "none"
    return (f"已加载 Loaded: base `{engine.base_name}` ({engine.parameters / 1e6:,.1f} M parameters) · adapter {adapter} · device `{engine.device}` · "
            f"dtype `{str(engine.dtype).removeprefix('torch.')}`")


def build(engine, answered: list | None = None) -> gr.Blocks:
    """The page over one engine. `answered`: the first question's columns, shown when it opens."""
    with gr.Blocks(title="LoRA Lens", analytics_enabled=False) as page:
        gr.Markdown("# LoRA Lens\n同一个问题，同一个模型：左边没有适配器，右边有。"
                    "**One question, one copy of the model: without the adapter on the left, with it on the right.**")
        gr.Markdown(loaded(engine), elem_classes="lens-loaded", elem_id="loaded")
        compare.build(engine, answered)
        gr.Markdown("一次并排只说明这一个问题；它不能证明适配器总是更好。"
                    "_One side by side shows one question; it does not prove that the adapter is better in general._")
    return page
