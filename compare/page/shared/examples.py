"""The questions that a page opens with and offers: those that come with its first adapter, else the embedded pair's on
a BLOOM, and a few that any model may be asked on another base.

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
GENERAL: Group = ("随便问问", "Anything", [("What is the capital of France?", ""), ("Why is the sky blue?", ""),
                                       ("Write one sentence about the sea.", "")])


def brought(engine: Engine) -> tuple[Row, ...]:
    """The first adapter's own; none where it brings none. Raises BadRows."""
    adapter = first_adapter(engine)
    file = adapter.path / EXAMPLES if adapter else Path()
    return tuple(read_rows([file], answers=False, keep=True)) if file.is_file() else ()


def of_the_pair(engine: Engine) -> bool:
    """Does the page show the embedded pair's questions?"""
    return engine.facts.family == "bloom" and not brought(engine)


def groups(engine: Engine) -> list[Group]:
    """What is offered, in order; none where the embedded pair's are."""
    found: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for row in brought(engine):
        name = str(row.rest.get("group", ""))
        found.setdefault((str(row.rest.get("group_zh", name)), name), []).append((row.input, ""))
    own = [(zh, en, questions) for (zh, en), questions in found.items()]
    return own or ([] if of_the_pair(engine) else [GENERAL])


def questions_of(engine: Engine) -> list[str]:
    """Those of `groups`."""
    return [question for _, _, some in groups(engine) for question, _ in some]


def first_question(engine: Engine) -> tuple[str, str]:
    """Question and instruction that the page opens with."""
    if own := brought(engine):
        return own[0].input, own[0].instruction
    return (FIRST_QUESTION, FIRST_INSTRUCTION) if of_the_pair(engine) else (questions_of(engine)[0], "")


def heldout_file(engine: Engine) -> Path:
    """Of questions that the first adapter never trained on; it need not be there."""
    adapter = first_adapter(engine)
    return held_out.HELDOUT if of_the_pair(engine) else (adapter.path if adapter else Path(engine.facts.base)) / HELDOUT
