"""The held-out questions with what is known of their right answers."""

from __future__ import annotations

import random
from functools import cache
from pathlib import Path

from compare.report.measures import all_keywords, exact
from compare.report.rows import Row, read_data
from lens.embedded import ASSETS

HELDOUT = ASSETS / "hit_qa" / "heldout.jsonl"


@cache
def every_row(file: Path = HELDOUT) -> dict[str, Row]:
    """By question, off-topic ones too. Empty where the file is not there; else may raise BadRows."""
    return {row.input: row for row in read_data(file).rows} if file.is_file() else {}


@cache
def rows(file: Path = HELDOUT) -> dict[str, Row]:
    """By question: those that have a right answer."""
    return {question: row for question, row in every_row(file).items() if not row.off_topic}


def any_row(off_topic: bool = False, file: Path = HELDOUT) -> Row | None:
    """By lot, among those with a right answer or, with `off_topic`, among all; None where there is no file."""
    some = every_row(file) if off_topic else rows(file)
    return random.choice(list(some.values())) if some else None


def is_right(row: Row, text: str) -> bool:
    """As in the report: every keyword is in it; without keywords, it equals the reference."""
    found = all_keywords(text, row.keywords)
    return bool(exact(text, row.output) if found is None else found)
