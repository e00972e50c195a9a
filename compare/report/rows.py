"""A file of questions with references → checked rows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from lens.errors import BadRows, BadSetting, first_line
from lens.strict_json import loads
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

    @property
    def off_topic(self) -> bool:
        return self.kind == OFF_TOPIC

    def as_dict(self) -> dict:
        return {**asdict(self), "keywords": list(self.keywords)}


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
    """The rows of a JSON-lines file, or of its first `limit` rows. Raises BadRows naming the line."""
    if limit is not None and limit < 1:
        raise BadSetting("setting-out-of-range", option="--limit", value=limit, allowed="1 or more")
    text = read_text(path, "--data")
    rows: list[Row] = []
    for where, value in objects(path, text):
        if limit is not None and len(rows) == limit:
            break
        rows.append(checked(where, value, len(rows)))
    if not rows:
        raise BadRows("report-rows-none", path=path)
    if all(row.off_topic for row in rows):
        raise BadRows("report-rows-off-topic", path=path, kind=OFF_TOPIC)
    return Data(path.name, hashlib.sha256(text.encode()).hexdigest(), tuple(rows))


def objects(path: Path, text: str) -> Iterator[tuple[str, object]]:
    """(where, parsed value) of each line that is not empty."""
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path} line {number}"
        try:
            yield where, loads(line)
        except (ValueError, RecursionError) as err:
            raise BadRows("report-row-not-json", where=where, reason=first_line(err)) from err


def checked(where: str, value: object, index: int) -> Row:
    """A parsed line as a row. Raises BadRows with what is wrong."""
    if not isinstance(value, dict):
        raise BadRows("report-row-no-object", where=where, found=type(value).__name__)
    texts = {}
    for field in ("input", "instruction", "output", "kind"):
        text = value.get(field)
        if text is not None and not isinstance(text, str):
            raise BadRows("report-row-not-text", where=where, field=field, found=type(text).__name__)
        texts[field] = text or ""
    keywords = value.get("keywords") or []
    if not isinstance(keywords, list) or not all(isinstance(k, str) and k.strip() for k in keywords):
        raise BadRows("report-row-keywords", where=where, found=one_line(keywords)[:60])
    if not texts["input"].strip():
        raise BadRows("report-row-no-question", where=where)
    if not texts["output"].strip() and not keywords:
        raise BadRows("report-row-no-reference", where=where)
    return Row(index=index, keywords=tuple(keywords), **texts)


def read_plain(path: Path) -> list[str]:
    """The sentences of a plain-text file, one a line. Raises BadRows when there are none."""
    lines = [line.strip() for line in read_text(path, "--plain").splitlines() if line.strip()]
    if not lines:
        raise BadRows("report-plain-empty", path=path)
    return lines
