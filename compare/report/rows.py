"""A file of questions with references → checked rows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from lens.errors import BadQuestion

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
    """A file's text, without a byte order mark. Raises BadQuestion naming option and file."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as err:
        raise BadQuestion(f"{option} {path} is not UTF-8 text (byte {err.start}); save it as UTF-8") from err
    except OSError as err:
        raise BadQuestion(f"{option} {path} cannot be read ({err.strerror}); give a text file") from err


def read_data(path: Path, limit: int | None = None) -> Data:
    """The rows of a JSON-lines file, or of its first `limit` rows. Raises BadQuestion naming the line."""
    if limit is not None and limit < 1:
        raise BadQuestion(f"--limit is {limit}; allowed: 1 or more")
    text = read_text(path, "--data")
    rows: list[Row] = []
    for where, value in objects(path, text):
        if limit is not None and len(rows) == limit:
            break
        rows.append(checked(where, value, len(rows)))
    if not rows:
        raise BadQuestion(f"--data {path} holds no row; expected one JSON object a line with input and output")
    if all(row.off_topic for row in rows):
        raise BadQuestion(f"--data {path} holds only rows of kind {OFF_TOPIC!r}; expected some with a right answer")
    return Data(path.name, hashlib.sha256(text.encode()).hexdigest(), tuple(rows))


def objects(path: Path, text: str) -> Iterator[tuple[str, object]]:
    """(where, parsed value) of each line that is not empty."""
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path} line {number}"
        try:
            yield where, json.loads(line)
        except (ValueError, RecursionError) as err:
            raise BadQuestion(f"{where} is not JSON ({err}); expected one object a line") from err


def checked(where: str, value: object, index: int) -> Row:
    """A parsed line as a row. Raises BadQuestion with what is wrong."""
    if not isinstance(value, dict):
        raise BadQuestion(f"{where}: found {type(value).__name__}, expected an object with input and output")
    texts = {}
    for field in ("input", "instruction", "output", "kind"):
        text = value.get(field)
        if text is not None and not isinstance(text, str):
            raise BadQuestion(f"{where}: field {field!r} is {type(text).__name__}, expected text")
        texts[field] = text or ""
    keywords = value.get("keywords") or []
    if not isinstance(keywords, list) or not all(isinstance(k, str) and k.strip() for k in keywords):
        raise BadQuestion(f"{where}: field 'keywords' is {str(keywords)[:60]!r}, expected a list of words")
    if not texts["input"].strip():
        raise BadQuestion(f"{where}: field 'input' is empty or missing, expected a question")
    if not texts["output"].strip() and not keywords:
        raise BadQuestion(f"{where} has no reference; give the right answer in `output`, or words that it "
                          "must contain in `keywords`")
    return Row(index=index, keywords=tuple(keywords), **texts)


def read_plain(path: Path) -> list[str]:
    """The sentences of a plain-text file, one a line. Raises BadQuestion when there are none."""
    lines = [line.strip() for line in read_text(path, "--plain").splitlines() if line.strip()]
    if not lines:
        raise BadQuestion(f"--plain {path} holds no text; expected one sentence a line")
    return lines
