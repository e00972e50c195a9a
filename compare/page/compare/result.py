"""A whole result of a comparison: drawn, with what to do with it, and what differs between two of its answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from markupsafe import Markup

from compare.page.compare.export import as_dict, as_table, downloads
from compare.page.compare.word_diff import difference
from compare.page.shared.answer_column import draw_column
from compare.page.shared.answer_markdown import rendered
from compare.page.shared.held_out import HELDOUT, every_row
from compare.page.shared.request import FIRST_INSTRUCTION, ComparisonRequest
from compare.page.shared.templates import draw, piece, read
from lens.errors import BadSetting

LONGEST = 100_000  # characters of an answer that is compared; the page's own are far shorter


def draw_result(asked: ComparisonRequest, columns: Sequence, loaded: dict, precomputed: bool = False,
                beside: Sequence = (), usual: str = FIRST_INSTRUCTION, heldout: Path = HELDOUT,
                end: str = "</s>") -> Markup:
    """All of it. `loaded`: name → value of what is loaded, for the downloads; `beside`: endpoints' columns; `usual`:
    the page's own instruction; `heldout`: the file of questions whose right answers are known; `end`: the
    token that ends an answer."""
    finished = all(c.finish_reason for c in columns) and all(c.over for c in beside)
    known = every_row(heldout).get(asked.question)
    by_name = len({c.variant.adapter for c in columns if c.variant.adapter}) > 1
    result = as_dict(asked, columns, loaded, beside) if finished else None
    return draw("compare/result", "result", columns=columns, finished=finished, precomputed=precomputed,
                saved=downloads(result) if result else [], table=as_table(result) if result else "",
                drawn=[draw_column(c, i, asked.question, i - 1 if i else None, end, by_name)
                       for i, c in enumerate(columns)],
                beside=beside, formatted=[rendered(c.text) if finished else None for c in beside],
                question=asked.question, reference=known.output if known and finished else "", link=asked.link(usual))


def differ(texts: Any) -> str:
    """Two answers, [one, other], beside each other, with what differs marked. For the page's script."""
    if not isinstance(texts, list) or len(texts) != 2 or not all(isinstance(t, str) and len(t) <= LONGEST
                                                                 for t in texts):
        return draw("compare/result", "error", error=BadSetting("difference-texts", most=f"{LONGEST:,}"))
    return draw("compare/answer_diff", "difference", found=difference(*texts))


def result_piece(drawn: Markup) -> gr.HTML:
    """Where results are shown, this one first."""
    return piece(drawn, js_on_load=read("compare/result.js", "compare/answer_diff.js"), elem_id="result",
                 css_template=read("compare/result.css"), server_functions=[differ])
