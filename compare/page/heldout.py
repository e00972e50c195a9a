"""The held-out questions with what is known of their right answers. Knows no engine and no component."""

from __future__ import annotations

import random
from functools import cache

from compare.report.measures import all_keywords, exact
from compare.report.rows import Row, read_data
from compare.settings import ASSETS

HELDOUT = ASSETS / "hit_qa" / "heldout.jsonl"


@cache
def rows() -> dict[str, Row]:
    """By question: those that have a right answer. Empty where the file is not there; else may raise BadQuestion."""
    if not HELDOUT.is_file():
        return {}
    return {row.input: row for row in read_data(HELDOUT).rows if not row.off_topic}


def any_row() -> Row | None:
    return random.choice(list(rows().values())) if rows() else None


def is_right(row: Row, text: str) -> bool:
    """As in the report: every keyword is in it; without keywords, it equals the reference."""
    found = all_keywords(text, row.keywords)
    return bool(exact(text, row.output) if found is None else found)
