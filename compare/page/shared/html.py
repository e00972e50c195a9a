"""HTML of ours inside Gradio: pieces that it has no component for, and the styles and scripts of the tabs."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

PAGE = Path(__file__).resolve().parent.parent
PICK = """element.addEventListener("click", (event) => {
  const chip = event.target.closest("[data-question]");
  if (chip) { props.value = chip.dataset.question; trigger("pick"); }
});"""


def read(*names: str) -> str:
    """The text of files below compare/page, such as "blind/tab.css", one after the other."""
    return "\n".join((PAGE / name).read_text(encoding="utf-8") for name in names)


def own(html: str, **kwargs) -> gr.HTML:
    """A piece without Gradio's own styles. `kwargs`: gr.HTML's."""
    return gr.HTML(html, **{"js_on_load": None, "apply_default_css": False, "elem_classes": "lens-own", **kwargs})


def picker(chips: str, **kwargs) -> gr.HTML:
    """Chips to click on (examples.py): it sends `pick`, and its value is the `data-question` that was clicked."""
    return own("", html_template=chips, js_on_load=PICK, **kwargs)
