"""The questions that a page opens with and offers: those that come with its first adapter, else the embedded pair's.

An adapter brings them in `examples.jsonl` beside its weights: rows of data whose `group` (and `group_zh`) name what
they ask about. The first is what the page opens with; `heldout.jsonl` there holds those that nobody trained on.
"""

from __future__ import annotations

from pathlib import Path

from compare.engine.interface import Engine
from compare.page.shared import held_out
from compare.page.shared.column_list import first_adapter
from compare.page.shared.request import FIRST_INSTRUCTION, FIRST_QUESTION
from lens.rows.rows import Row, read_rows

EXAMPLES, HELDOUT = "examples.jsonl", "heldout.jsonl"
Group = tuple[str, str, list[tuple[str, str]]]  # its name in Chinese and English; questions, each with a gloss


def brought(engine: Engine) -> tuple[Row, ...]:
    """The first adapter's own; none where it brings none. Raises BadRows."""
    adapter = first_adapter(engine)
    file = adapter.path / EXAMPLES if adapter else Path()
    return tuple(read_rows([file], answers=False, keep=True)) if file.is_file() else ()


def groups(engine: Engine) -> list[Group]:
    """Those of `brought`, in the file's order."""
    found: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for row in brought(engine):
        name = str(row.rest.get("group", ""))
        found.setdefault((str(row.rest.get("group_zh", name)), name), []).append((row.input, ""))
    return [(zh, en, questions) for (zh, en), questions in found.items()]


def first_question(engine: Engine) -> tuple[str, str]:
    """Question and instruction that the page opens with."""
    own = brought(engine)
    return (own[0].input, own[0].instruction) if own else (FIRST_QUESTION, FIRST_INSTRUCTION)


def heldout_file(engine: Engine) -> Path:
    """Of questions that the first adapter never trained on; it need not be there."""
    adapter = first_adapter(engine)
    return adapter.path / HELDOUT if adapter and brought(engine) else held_out.HELDOUT
