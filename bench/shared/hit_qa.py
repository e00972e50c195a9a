"""The rows of assets/hit_qa, as measurements ask for them."""

from __future__ import annotations

from compare.questions import Question
from compare.report.rows import read_data
from lens.embedded import ASSETS

FOLDER = ASSETS / "hit_qa"


def held_out(count: int) -> list[Question]:
    """The first `count` held-out questions. Raises BadQuestion where `count` is less than 1."""
    return [Question(row.input, row.instruction) for row in read_data(FOLDER / "heldout.jsonl", count).rows]
