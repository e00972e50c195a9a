"""Our HTML: drawn from the jinja2 templates that lie beside each tab's code, and laid into Gradio."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import gradio as gr
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from compare.page.frame.words import CONTROLS, Words, both, harmless
from lens.errors import LensError, Note

PAGE = Path(__file__).resolve().parent.parent
HAN, KANA = re.compile("[\u3400-\u9fff]"), re.compile("[\u3040-\u30ff]")


def shown(value: Any) -> Any:
    """What a template shows of a value: an error or a note in both languages, no control characters."""
    if isinstance(value, LensError | Note):
        return Words.of(value)
    return harmless(value) if type(value) is str else value


def lang(text: str) -> Markup:
    """The attribute that names the language of a text which may be in any: Chinese where it looks so, else none."""
    return Markup(' lang="zh-CN"' if HAN.search(text) and not KANA.search(text) else "")


def as_json(value: object) -> str:
    """Compact JSON without a raw control character, for data attributes."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


@cache
def environment() -> Environment:
    found = Environment(loader=FileSystemLoader(PAGE), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
                        lstrip_blocks=True, finalize=shown, cache_size=-1)
    found.globals.update(both=both, lang=lang)
    found.filters["as_json"] = as_json
    return found


@cache
def template(name: str):
    """The macros of a template below compare/page, such as "blind/view"."""
    return environment().get_template(f"{name}.html.jinja").module


def draw(name: str, macro: str, **values: object) -> Markup:
    """The HTML of one macro of a template, with all values escaped."""
    return getattr(template(name), macro)(**values)


def read(*names: str) -> str:
    """The text of files below compare/page, such as "blind/tab.css", one after the other."""
    return "\n".join((PAGE / name).read_text(encoding="utf-8") for name in names)


def piece(html: str = "", **kwargs: Any) -> gr.HTML:
    """HTML of ours without Gradio's own styles. `kwargs`: gr.HTML's."""
    return gr.HTML(str(html), **{"js_on_load": None, "apply_default_css": False, "elem_classes": "lens-own", **kwargs})


def tab_piece(tab: str, html: str = "", **kwargs: Any) -> gr.HTML:
    """A piece of a tab, under the style of all tabs and the tab's own."""
    return piece(html, **{"css_template": read("frame/tab.css", f"{tab}/tab.css"),
                          "elem_classes": ["lens-own", f"lens-{tab}"], **kwargs})


def picker(chips: str, **kwargs: Any) -> gr.HTML:
    """Chips to click on: it sends `pick`, and its value is the `data-question` that was clicked."""
    return piece(html_template=str(chips), js_on_load=read("shared/pick.js"), **kwargs)
