"""One column of a comparison: what its template is given of an answer that grows."""

from __future__ import annotations

from markupsafe import Markup

from compare.analysis.repetition import seq_rep
from compare.page.shared.answer_markdown import rendered
from compare.page.shared.templates import draw

HALF_REPEATED = 0.5  # seq-rep-4 from which a short answer is said to repeat itself


def repeats(column) -> bool:
    """Does it end in a loop, or is it, short as it is, mostly repetition?"""
    return bool(column.loop) or (seq_rep(column.token_ids) or 0) > HALF_REPEATED


def draw_column(column, index: int, question: str = "", extra: int | None = None, end: str = "</s>",
                by_name: bool = False) -> Markup:
    """The whole column. Ids: `base`, `adapted`, `column-2`…, and the same with `-status` for the figures.

    `question`: what a plain column goes on from; `extra`: which of the further columns it is, and can be removed as;
    `end`: the token that ends an answer; `by_name`: other adapters' columns stand beside it, so it is headed by its own
    adapter's name.
    """
    variant, loop = column.variant, column.loop
    onset = len(column.decode(column.token_ids[:loop.onset]).rstrip("\ufffd")) if loop else None
    share = seq_rep(column.token_ids)
    return draw("shared/answer_column", "column", column=column, index=index, extra=extra, onset=onset,
                by_name=by_name,
                identity="base" if index == 0 else "adapted" if index == 1 and variant.adapter else f"column-{index}",
                kind="adapted" if variant.adapter and variant.strength else "base",
                rendered=rendered(column.text) if column.finish_reason else None,
                before=question if variant.prompt == "plain" else "",
                repeated=None if len(column.token_ids) < 4 else round(100 * (share or 0)), end=end)
