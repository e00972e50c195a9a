"""How the loaded adapters are related: a matrix of cosines, and of each pair in words whether they do the same."""

from __future__ import annotations

from markupsafe import Markup

from compare.page.changed.adapter_map import LEVELS
from compare.page.frame.words import Words
from compare.page.shared.templates import draw

MOST = 12  # adapters that are compared; the command takes any number


def shade(cosine: float | None) -> dict[str, object]:
    """A cosine in two digits, and its shade, 0 to LEVELS - 1; None where an update is zero."""
    size = f"{abs(cosine or 0):.2f}"
    below = cosine is not None and cosine < 0 and float(size) > 0
    return {"figure": "–" if cosine is None else f"−{size}" if below else size, "minus": below and float(size) >= 0.2,
            "level": min(LEVELS - 1, int(LEVELS * float(size)))}


def draw_matrix(found: dict, left: int = 0) -> Markup:
    """The section, the most alike of different pairs open. `found`: what `Engine.adapter_pairs` says; `left`: how many
    more are loaded."""
    adapters, pairs = found["adapters"], found["pairs"]
    number = {adapter["name"]: i for i, adapter in enumerate(adapters)}
    told = [{"id": f"{number[pair['one']]}-{number[pair['other']]}", "one": pair["one"], "other": pair["other"],
             "said": Words(pair["sentence"]["zh"], pair["sentence"]["en"]), **shade(pair["cosine"])} for pair in pairs]
    cells: dict[tuple[int, int], dict] = {}
    for pair, cell in zip(pairs, told, strict=True):
        one, other = number[pair["one"]], number[pair["other"]]
        cells[one, other] = cells[other, one] = cell
    most = max(range(len(pairs)), key=lambda i: pairs[i]["cosine"] or 0.0)
    rows = [[cells.get((row, column)) for column in range(len(adapters))] for row in range(len(adapters))]
    return draw("changed/adapter_matrix", "matrix", adapters=adapters, rows=rows, pairs=told, opened=told[most]["id"],
                left=left, notes=[Words(note["message_zh"], note["message"]) for note in found["notes"]])
