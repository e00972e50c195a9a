"""A file of questions with references → checked rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lens.errors import BadRows, BadSetting
from lens.rows.rows import Row as TrainingRow
from lens.rows.rows import read_rows
from lens.rows.sources import describe_source
from lens.terminal_text import one_line

OFF_TOPIC = "unknown"  # the `kind` of rows that ask about something else


@dataclass(frozen=True)
class Row:
    """One question and what is known of its right answer: a reference, keywords, or both."""

    index: int  # from 0, in the file's order, rows only
    input: str
    instruction: str = ""
    output: str = ""
    keywords: tuple[str, ...] = ()
    kind: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)  # what else the row had

    @property
    def off_topic(self) -> bool:
        return self.kind == OFF_TOPIC

    def as_dict(self) -> dict:
        return {"index": self.index, "input": self.input, "instruction": self.instruction, "output": self.output,
                "keywords": list(self.keywords), "kind": self.kind}


@dataclass(frozen=True)
class Data:
    """The rows of one file, its name and the sha256 of its bytes."""

    name: str
    sha256: str
    rows: tuple[Row, ...]


def read_text(path: Path, option: str) -> str:
    """A file's text, without a byte order mark. Raises BadRows naming option and file."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as err:
        raise BadRows("report-file-not-text", option=option, path=path, byte=err.start) from err
    except (OSError, ValueError) as err:  # ValueError: a name no file system takes
        raise BadRows("report-file-unreadable", option=option, path=path, reason=getattr(err, "strerror", err)) from err


def read_data(path: Path, limit: int | None = None) -> Data:
    """The rows of a file in any format that training reads, or its first `limit`. Raises BadRows naming the place."""
    if limit is not None and limit < 1:
        raise BadSetting("setting-out-of-range", option="--limit", value=limit, allowed="1 or more")
    rows = tuple(checked(row, index) for index, row in enumerate(read_rows([path], answers=False, keep=True)[:limit]))
    if all(row.off_topic for row in rows):
        raise BadRows("report-rows-off-topic", path=path, kind=OFF_TOPIC)
    return Data(path.name, str(describe_source(str(path))["sha256"]), rows)


def checked(row: TrainingRow, index: int) -> Row:
    """A row with what is known of its right answer. Raises BadRows where that is nothing."""
    kind, keywords = row.rest.get("kind") or "", row.rest.get("keywords") or []
    if not isinstance(kind, str):
        raise BadRows("report-row-not-text", where=row.where, field="kind", found=type(kind).__name__)
    if not isinstance(keywords, list) or not all(isinstance(k, str) and k.strip() for k in keywords):
        raise BadRows("report-row-keywords", where=row.where, found=one_line(keywords)[:60])
    if row.earlier:
        raise BadRows("report-row-conversation", where=row.where, turns=len(row.turns))
    if not row.output.strip() and not keywords:
        raise BadRows("report-row-no-reference", where=row.where)
    return Row(index, row.input, row.instruction, row.output, tuple(keywords), kind, row.rest)


def read_plain(path: Path) -> list[str]:
    """The sentences of a plain-text file, one a line. Raises BadRows when there are none."""
    lines = [line.strip() for line in read_text(path, "--plain").splitlines() if line.strip()]
    if not lines:
        raise BadRows("report-plain-empty", path=path)
    return lines
