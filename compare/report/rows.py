"""A file of questions with references → checked rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from compare.options import check_limit
from lens.errors import BadRows, Note
from lens.rows.row_options import RowOptions
from lens.rows.rows import TAG, Rows, read_rows
from lens.rows.rows import Row as TrainingRow
from lens.rows.sources import describe_source
from lens.terminal_text import one_line

OFF_TOPIC = "unknown"  # the `kind` of rows that ask about something else
READ = ("kind", "keywords")  # fields that a report reads beside question and reference


@dataclass(frozen=True)
class Row:
    """One question and what is known of its right answer: a reference, keywords, or both."""

    index: int  # from 0, in the file's order, each question once
    input: str
    instruction: str = ""
    output: str = ""
    keywords: tuple[str, ...] = ()
    kind: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)  # what else the row had

    @property
    def off_topic(self) -> bool:
        return self.kind == OFF_TOPIC

    @property
    def asked(self) -> tuple[str, str]:
        """What makes it the same question as another."""
        return self.instruction.strip(), self.input.strip()

    @property
    def reference(self) -> tuple:
        """What is known of its right answer."""
        return self.output.strip(), self.keywords, self.kind

    def as_dict(self) -> dict:
        return {"index": self.index, "input": self.input, "instruction": self.instruction, "output": self.output,
                "keywords": list(self.keywords), "kind": self.kind}


@dataclass(frozen=True)
class Data:
    """The rows of one file, each question once; its name, the sha256 of its bytes, and what is to be told of it.

    `repeats`: rows whose question stands before them already; `skipped`: bad rows that were left out.
    """

    name: str
    sha256: str
    rows: tuple[Row, ...]
    repeats: int = 0
    skipped: int = 0
    notes: tuple[Note, ...] = ()


def read_text(path: Path, option: str) -> str:
    """A file's text, without a byte order mark. Raises BadRows naming option and file."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as err:
        raise BadRows("report-file-not-text", option=option, path=path, byte=err.start) from err
    except (OSError, ValueError) as err:  # ValueError: a name no file system takes
        raise BadRows("report-file-unreadable", option=option, path=path, reason=getattr(err, "strerror", err)) from err


def read_data(path: Path, limit: int | None = None, options: RowOptions | None = None, slice_by: str = TAG) -> Data:
    """The rows of a file in any format that training reads, or its first `limit`. Raises BadRows naming the place."""
    check_limit(limit)
    how = options or RowOptions()
    found = read_rows([path], how.columns, how.skip_bad_rows, how.encoding, answers=False, keep=True)
    found.unused.update(key for row in found for key in row.rest if key not in (*READ, slice_by))
    every = judged(found, found[:limit], how.skip_bad_rows)
    rows, others = each_once(every)
    if all(row.off_topic for row in rows):
        raise BadRows("report-rows-off-topic", path=path, kind=OFF_TOPIC)
    notes, repeats = found.notes(), len(every) - len(rows)
    if repeats:
        notes.append(Note("report-rows-repeated", count=repeats, questions=len(rows)))
    if others:
        notes.append(Note("report-rows-contradict", count=len(others), question=repr(others[0].input[:60])))
    return Data(path.name, str(describe_source(str(path))["sha256"]), rows, repeats, len(found.skipped), tuple(notes))


def usable(row: TrainingRow) -> bool:
    try:
        return bool(checked(row, 0))
    except BadRows:
        return False


def judged(found: Rows, some: Sequence[TrainingRow], skip_bad_rows: bool) -> list[Row]:
    """Some of the rows found, with what is known of their right answers. Raises BadRows, or skips."""
    rows: list[Row] = []
    for row in some:
        try:
            rows.append(checked(row, len(rows)))
        except BadRows as err:
            if not skip_bad_rows:
                more = Note("next-skip") if rows or any(map(usable, some)) else ""
                raise err.with_next(more) from None
            found.skip(err)
    if not rows:
        raise BadRows("no-rows-all-bad", paths="--data", count=len(found.skipped), first=found.skipped[0])
    return rows


def each_once(rows: list[Row]) -> tuple[tuple[Row, ...], list[Row]]:
    """Every question once, as it stood first: one asked ten times tells no more than one. And those of its repeats
    that have another reference."""
    first: dict[tuple[str, str], Row] = {}
    for row in rows:
        first.setdefault(row.asked, row)
    once = tuple(replace(row, index=index) for index, row in enumerate(first.values()))
    return once, [row for row in rows if row.reference != first[row.asked].reference]


def checked(row: TrainingRow, index: int) -> Row:
    """A row with what is known of its right answer. Raises BadRows where that is nothing."""
    kind, keywords = row.rest.get("kind") or "", row.rest.get("keywords") or []
    if not isinstance(kind, str):
        raise BadRows("report-row-not-text", next="", where=row.where, field="kind", found=type(kind).__name__)
    if not isinstance(keywords, list) or not all(isinstance(k, str) and k.strip() for k in keywords):
        raise BadRows("report-row-keywords", next="", where=row.where, found=one_line(keywords)[:60])
    if row.earlier:
        raise BadRows("report-row-conversation", next="", where=row.where, turns=len(row.turns))
    if not row.output.strip() and not keywords:
        raise BadRows("report-row-no-reference", next="", where=row.where)
    return Row(index, row.input, row.instruction, row.output, tuple(keywords), kind, row.rest)


def read_plain(path: Path) -> list[str]:
    """The sentences of a plain-text file, one a line. Raises BadRows when there are none."""
    lines = [line.strip() for line in read_text(path, "--plain").splitlines() if line.strip()]
    if not lines:
        raise BadRows("report-plain-empty", path=path)
    return lines
