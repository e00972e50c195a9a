"""One row of question-answer data, and what every text in it must be, whichever layout it came in."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lens.errors import BadRows
from lens.rows.lines import LONGEST_LINE

HALF = re.compile("[\ud800-\udfff]")  # JSON can spell half of a character beyond U+FFFF; no tokenizer takes it
# A text that some chat template has laid out already: as ordinary text its markers would be taught to the letter.
LAID_OUT = re.compile(
    r"\s*(?:<s>|<\|begin_of_text\|>)?\s*(?:<\|im_start\|>\w+\n|<\|beginofutterance\|>(?:系统|用户|智能助手)\n|\[INST\]"
    r"|<\|start_header_id\|>|<start_of_turn>(?:user|model)\n|<\|(?:user|system)\|>\n)")
NOTHING: tuple[object, ...] = (None, "", [], {})  # values that nobody misses

Turn = tuple[str, str]  # a question and its answer


@dataclass(frozen=True, slots=True)
class Row:
    """One checked row and where it stood. Rows are equal when their texts are.

    `instruction` is the system turn, `input` the question, `output` its answer; `earlier` are the turns of a
    conversation before that one, each of which is taught as well.
    """

    instruction: str
    input: str
    output: str
    where: str = field(compare=False)
    earlier: tuple[Turn, ...] = ()
    rest: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)  # unused fields, where kept

    @property
    def turns(self) -> tuple[Turn, ...]:
        return *self.earlier, (self.input, self.output)


@dataclass
class Taken:
    """What one place of the data gave: rows, and what was left out of it on purpose."""

    rows: list[Row] = field(default_factory=list)
    refusals: int = 0  # answers of HC3 that decline to answer, and questions without one
    open_questions: int = 0  # conversations whose last turn asks, and nothing answers
    unread: set[str] = field(default_factory=set)  # keys within the turns of a conversation that held something


def bad(code: str, where: str, **values: object) -> BadRows:
    """A row that cannot be used; `next` is for whoever knows what helps."""
    return BadRows(code, where=where, next="", **values)


def checked(value: object, name: str, where: str) -> str:
    """A field's text, '' where there is none. Raises BadRows."""
    if value is None:
        return ""
    if not isinstance(value, str):
        found = "NaN" if isinstance(value, float) and math.isnan(value) else type(value).__name__
        raise bad("row-field-not-text", where, field=name, found=found)
    if len(value) > LONGEST_LINE:
        raise bad("row-field-too-long", where, field=name, characters=len(value), longest=LONGEST_LINE)
    if half := HALF.search(value):
        raise bad("row-field-half-character", where, field=name, half=half[0])
    if laid_out := LAID_OUT.match(value):
        raise bad("row-laid-out", where, field=name, marker=laid_out[0].strip()[:40])
    return value


def one_row(instruction: str, question: str, answer: str, where: str, answers: bool, name: str,
            earlier: tuple[Turn, ...] = ()) -> Taken:
    """A row with a question and, where `answers` are needed, an answer. Raises BadRows."""
    if not question.strip():
        raise bad("row-no-question", where)
    if answers and not answer.strip():
        raise bad("row-empty-output", where, field=name)
    return Taken([Row(instruction, question, answer, where, earlier)])
