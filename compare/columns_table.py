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


def map_lines(found: dict) -> list[str]:
    """A layer a line: nats gained by each part alone, and lost without it."""
    kinds = list(dict.fromkeys(part["kind"] for part in found["parts"]))
    parts = {(part["layer"], part["kind"]): part for part in found["parts"]}
    rows = [("layer", *(f"{head}{kind or 'layer'}" for head in ("+ ", "− ") for kind in kinds))]
    for layer in dict.fromkeys(part["layer"] for part in found["parts"]):
        cells = (parts.get((layer, kind), {}).get(side) for side in ("gained", "lost") for kind in kinds)
        rows.append((str(layer), *("–" if cell is None else f"{cell:.2f}" for cell in cells)))
    return ["  nats gained with one part alone on (+), lost with it alone off (−); not additive",
            *("  " + "".join(f"{cell:>12}" if i else f"{cell:>5}" for i, cell in enumerate(row)) for row in rows)]


def layer_lines(token: dict) -> list[str]:
    """A layer a line: what both models would say there, and how far apart their states are."""
    sides = [(side, token[side]) for side in ("base", "adapted")]
    lines = [f"  token {token['index']} '{one_line(token['text'])}'; the final choice leads from layer "
             + ", ".join(f"{through['leads_from']} ({side})" for side, through in sides)]
    for number, change in enumerate(token["changes"]):
        tops = [f"{side} '{one_line(top['text'])}' {top['probability']:.0%}"
                for side, through in sides for top in through["layers"][number]["top"][:1]]
        lines.append(f"  layer {number}: {' · '.join(tops)} · states {change:.0%} apart")
    return lines


def notes(found: dict) -> list[str]:
    """Receipt and shift of one column, in words, and what was seen by layers."""
    lines, name = [], one_line(found["variant"])
    if receipt := found.get("receipt"):
        lines.append(f"{name}: sha256 {receipt['sha256'][:12]}, rank {receipt['rank']}, "
                     f"{receipt['modules']} modules, {receipt['keys_matched']} keys matched, "
                     f"largest logit change {receipt['max_logit_change']:.3g}, "
                     f"base column {'verified' if receipt['base_exact'] else 'NOT the untouched base'}")
    if shift := found.get("shift"):
        lines.append(f"{name}: {visible(shift['sentence']['en'])}")
    if layers := found.get("map"):
        lines += [f"{name}: {layers['sentence']['en']}", *map_lines(layers)]
    if lens := found.get("by_layer"):
        lines += [f"{name}: {lens['sentence']['en']}", *(line for t in lens["tokens"] for line in layer_lines(t))]
    return lines
