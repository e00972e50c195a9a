"""Answers for a terminal: the columns of a question as a table, receipt and shift in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lens.terminal_text import one_line, visible

if TYPE_CHECKING:
    from rich.table import Table

    from compare.questions import Question

WHY = {"stop": "ended by itself", "length": "cut at the maximum length", "cancelled": "stopped",
       "loop": "stopped at a loop", None: "…"}
NARROWEST = 18  # characters of a column side by side; below it the columns stand one under another


def foot(column) -> str:
    """Why it stopped and how it repeats."""
    loop = f" · repeats {column.loop.period} tokens × {column.loop.copies}" if column.loop else ""
    return f"{WHY[column.finish_reason]} · {len(column.token_ids)} tokens{loop}"


def table(question: Question, columns: Sequence, width: int) -> Table:
    """Answers on top, below each its foot; one under another where `width`, in characters, is short for all."""
    from rich.table import Table
    from rich.text import Text

    cells = [(Text(one_line(c.variant.name)), Text(visible(c.text), overflow="fold"), Text(foot(c))) for c in columns]
    grid = Table(title=Text(visible(question.text)), expand=True, show_lines=True)
    if width >= NARROWEST * len(columns):
        for name, _, _ in cells:
            grid.add_column(name, ratio=1, overflow="fold")
        grid.add_row(*(answer for _, answer, _ in cells))
        grid.add_row(*(end for _, _, end in cells))
    else:
        for head, ratio in (("column", 1), ("answer", 4)):
            grid.add_column(head, ratio=ratio, overflow="fold")
        for title, answer, end in cells:
            grid.add_row(Text("\n").join((title, end)), answer)
    return grid


def notes(found: dict) -> list[str]:
    """Receipt and shift of one column, in words."""
    lines, name = [], one_line(found["variant"])
    if receipt := found.get("receipt"):
        lines.append(f"{name}: sha256 {receipt['sha256'][:12]}, rank {receipt['rank']}, "
                     f"{receipt['modules']} modules, {receipt['keys_matched']} keys matched, "
                     f"largest logit change {receipt['max_logit_change']:.3g}, "
                     f"base column {'verified' if receipt['base_exact'] else 'NOT the untouched base'}")
    if shift := found.get("shift"):
        lines.append(f"{name}: {visible(shift['sentence']['en'])}")
    return lines
