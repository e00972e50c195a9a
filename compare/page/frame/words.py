"""Chinese and English side by side: a phrase, and how both stand in HTML and in plain text.

HTML carries both languages in spans, of which style.css shows one (`html[data-lang]`). Labels that Gradio draws are
written in Chinese and exchanged by language.js from labels.toml, so that a switch needs no reload.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from markupsafe import Markup, escape

from lens.errors import LensError, Note

CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")  # not tab, not line feed; half characters too


def harmless(text: str) -> str:
    """Control characters, which a page cannot show, as U+FFFD."""
    return CONTROLS.sub("\ufffd", text)


def both(zh: object, en: object, tag: str = "span") -> Markup:
    """Both languages as spans (or other tags), escaped unless they are markup already."""
    zh, en = (text if isinstance(text, Markup) else escape(harmless(str(text))) for text in (zh, en))
    return Markup(f'<{tag} class="lang-zh" lang="zh-CN">{zh}</{tag}><{tag} class="lang-en" lang="en">{en}</{tag}>')


@dataclass(frozen=True)
class Words:
    """One phrase in both languages; in a template it draws itself."""

    zh: str
    en: str

    @classmethod
    def of(cls, told: LensError | Note) -> Words:
        """What went wrong, or is to be known, in both languages."""
        return cls(told.said("zh"), told.said("en"))

    def __html__(self) -> str:
        return both(self.zh, self.en)

    def __str__(self) -> str:
        """Both languages in one line, for attributes and plain text."""
        return f"{self.zh} · {self.en}" if self.zh != self.en else self.en


@cache
def labels() -> dict[str, str]:
    """What Gradio draws: Chinese → English."""
    return tomllib.loads(Path(__file__).with_name("labels.toml").read_text(encoding="utf-8"))
