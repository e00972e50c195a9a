"""Sources of instruction / input / output → checked rows → `input_ids` and `labels`.

The prompt and the answer are encoded apart and joined as ids, so the prompt ids of training are
the ids a comparison sends.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lens.errors import BadInput
from lens.rows.columns import FIELDS, NEEDED, Columns, is_refusal, parse_columns
from lens.rows.json_values import RepeatedKey
from lens.rows.lines import LONGEST_LINE, Found
from lens.rows.sources import read_source

HALF = re.compile("[\ud800-\udfff]")  # JSON can spell half of a character beyond U+FFFF; no tokenizer takes it
MOST_SKIPPED = 100_000  # bad rows that `--skip-bad-rows` passes over; each leaves a sentence
BATCH = 1000  # rows the tokenizer gets at a time
GO_ON = "; --skip-bad-rows goes on without such rows"


@dataclass(frozen=True, slots=True)
class Row:
    """One checked row and where it stood. Rows are equal when their texts are."""

    instruction: str
    input: str
    output: str
    where: str = field(compare=False)


class Rows(list[Row]):
    """The rows of a run, and what was passed over on the way to them."""

    def __init__(self, rows: Iterable[Row] = (), skipped: Iterable[str] = (), refusals: int = 0):
        super().__init__(rows)
        self.skipped = list(skipped)  # a sentence for each bad row
        self.refusals = refusals  # answers of HC3 that decline to answer, and questions without one

    @property
    def duplicates(self) -> int:
        """Rows whose texts another row before them already has."""
        return len(self) - len(set(self))

    def skip(self, problem: str) -> None:
        """Count a bad row. Raises BadInput once there are so many that the file must be another than was meant."""
        self.skipped.append(problem)
        if len(self.skipped) > MOST_SKIPPED:
            raise BadInput(f"more than {MOST_SKIPPED:,} bad rows, the first: {self.skipped[0]}; check the data")


def _text_problem(name: str, value: object, special: Sequence[str]) -> str | None:
    """What is wrong with one field's value, or None."""
    if not isinstance(value, str):
        found = "NaN" if isinstance(value, float) and math.isnan(value) else type(value).__name__
        return f"field {name!r} is {found}, expected text"
    if len(value) > LONGEST_LINE:
        return f"field {name!r} has {len(value):,} characters, at most {LONGEST_LINE:,} are allowed"
    for token in special:
        if token in value:
            return f"field {name!r} contains the special token {token!r}; take it out"
    if half := HALF.search(value):
        return f"field {name!r} holds half a character ({half[0]!r}), expected whole text"
    return None


def _row_problem(value: object, special: Sequence[str], columns: Columns) -> str | None:
    """What is wrong with a parsed row, or None. `special` are the tokenizer's special tokens."""
    if not isinstance(value, dict):
        return f"found {type(value).__name__}, expected an object with instruction, input, output"
    if isinstance(value, RepeatedKey):
        return f"key {value.key[:40]!r} stands twice, expected each key once"
    names = {name: getattr(columns, name) for name in FIELDS}
    for name, column in names.items():
        if column not in value and (name in NEEDED or name in columns.given):
            found = ", ".join(repr(key[:40]) for key in list(value)[:8]) or "none"
            return f"field {column!r} is missing, found {found}; say which it is by --columns {name}=NAME"
        if value.get(column) is not None and (problem := _text_problem(column, value[column], special)):
            return problem
    if not any((value.get(names[name]) or "").strip() for name in ("instruction", "input")):
        return "instruction and input are both empty, expected a question"
    if not (value[names["output"]] or "").strip():
        return f"field {names['output']!r} is empty, expected an answer"
    return None


def _check(found: Found, special: Sequence[str], columns: Columns) -> Row:
    """The row that stood there. Raises BadInput with its place, what was found, what is allowed."""
    if problem := _row_problem(found.value, special, columns):
        raise BadInput(f"{found.where}: {problem}")
    return Row(**{name: found.value.get(getattr(columns, name)) or "" for name in FIELDS}, where=found.where)


def _hc3_answers(found: Found) -> list[Found]:
    """HC3's question with each of its ChatGPT answers, as rows of ours."""
    value = found.value
    answers = value["chatgpt_answers"]
    if not isinstance(answers, list):
        raise BadInput(f"{found.where}: field 'chatgpt_answers' is {type(answers).__name__}, expected a list of texts")
    return [Found(found.where, {"input": value["question"], "output": answer}) for answer in answers]


def _add(rows: Rows, found: Found, special: Sequence[str], columns: Columns) -> None:
    """Append the row, or the rows, that stood in one place. Raises BadInput, none of them appended."""
    if found.problem:
        raise BadInput(f"{found.where} {found.problem}")
    if not isinstance(found.value, dict) or isinstance(found.value, RepeatedKey) or not columns.is_hc3(found.value):
        rows.append(_check(found, special, columns))
        return
    asked = _hc3_answers(found)
    answered = [one for one in asked if not is_refusal(one.value["output"])]
    rows.extend([_check(one, special, columns) for one in answered])
    rows.refusals += len(asked) - len(answered) if asked else 1


def read_rows(paths: Iterable[str | Path], special: Iterable[str] = (), columns: Iterable[str] = (),
              skip_bad_rows: bool = False) -> Rows:
    """All rows of the files and hub datasets, checked.

    `special`: the tokenizer's special tokens, which no text may contain. `columns`: `input=question` and the
    like, where the data calls its fields otherwise; HC3's layout is recognised without. Raises BadInput naming
    file, line, what was found; with `skip_bad_rows` a bad row leaves its sentence in `Rows.skipped` instead, and
    only a file that cannot be read on raises.
    """
    paths, special, layout, rows = list(paths), list(special), parse_columns(columns), Rows()
    for source in paths:
        for found in read_source(str(source), layout):
            try:
                _add(rows, found, special, layout)
            except BadInput as err:
                if not skip_bad_rows:
                    raise BadInput(f"{err}{GO_ON}") from None
                rows.skip(str(err))
    if not rows:
        raise BadInput(f"no rows in {', '.join(map(str, paths))}; expected at least one{_passed_over(rows)}")
    return rows


def _passed_over(rows: Rows) -> str:
    refused = f"; {rows.refusals:,} refusals left out" if rows.refusals else ""
    return refused + (f"; {len(rows.skipped):,} skipped, the first: {rows.skipped[0]}" if rows.skipped else "")
