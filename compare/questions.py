"""Questions from files: plain text, one a line, or rows."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from compare.engine.question import Question
from lens.chat import valid_text
from lens.errors import BadQuestion, LensError, Note
from lens.rows.columns import parse_columns
from lens.rows.json_values import DECODER, FAULTS, RepeatedKey
from lens.rows.lines import SAMPLE, Found, as_text, read_lines
from lens.rows.row import NOTHING
from lens.rows.row_options import RowOptions
from lens.rows.rows import PROBED, Reader, Row, Rows, read_rows
from lens.rows.sources import Source

LARGEST_FILE = 64 << 20  # bytes
LINES = re.compile(r"\.(jsonl|ndjson)$", re.IGNORECASE)
READ = ("input", "question", "instruction", "output", "answer")  # of a row that asks; its answer is not asked for


class Questions(list[Question]):
    """The questions of a file, and what is to be told of how it was read."""

    def __init__(self, questions: Iterable[Question] = (), notes: Sequence[Note] = ()):
        super().__init__(questions)
        self.notes = list(notes)


def asked(row: Row, instruction: str) -> Question:
    """What a row asks first."""
    return Question(row.turns[0][0], row.instruction or instruction)


def read_questions(path: Path, instruction: str = "", how: RowOptions | None = None) -> Questions:
    """The questions of a file: text, one a line, or rows in any format that training reads, answers not needed; of a
    conversation the first.

    Raises BadQuestion or BadRows naming the line and what was found.
    """
    how = how or RowOptions()
    source = Source(str(path), parse_columns(how.columns), how.encoding, answers=False)
    if source.readable and not LINES.search(path.name):
        rows = read_rows([path], how.columns, how.skip_bad_rows, how.encoding, answers=False)
        return Questions([asked(row, instruction) for row in rows], rows.notes())
    found, rows, reader = Questions(), Rows(), Reader(source, source.columns, answers=False)
    every = iter(lines(path, how.encoding, rows.guessed))
    for line in every:
        try:
            if question := of_line(line, instruction, reader, rows):
                found.append(question)
        except LensError as err:
            if not how.skip_bad_rows:
                left = found or any(is_good(line, reader) for line in islice(every, PROBED))
                raise err.with_next(Note("next-skip")) if left and "next" in err.values else err from None
            rows.skip(err)
    if not found:
        raise BadQuestion("questions-none", path=path)
    found.notes = rows.notes()
    return found


def lines(path: Path, encoding: str, notes: list[Note]) -> Iterable[Found]:
    """The lines of a file, which may be a pipe. Raises BadQuestion or BadRows."""
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
    except (OSError, ValueError) as err:  # ValueError: a name no file system takes
        raise BadQuestion("questions-unreadable", path=path, reason=getattr(err, "strerror", err)) from err
    if len(content) > LARGEST_FILE:
        raise BadQuestion("questions-too-large", path=path, limit=LARGEST_FILE)
    return read_lines(path, as_text(path, io.BytesIO(content), content[:SAMPLE], encoding, notes))


def of_line(line: Found, instruction: str, reader: Reader, rows: Rows) -> Question | None:
    """The question in a line: the text itself, or a row's, which `rows` count. Raises BadRows or BadQuestion."""
    if line.problem:
        raise line.problem
    text = line.value.rstrip("\r\n")
    if not text.strip():
        return None
    if not text.lstrip().startswith("{"):
        return Question(text, instruction)
    try:
        value: dict[str, Any] = DECODER.decode(text)
    except FAULTS as err:
        raise BadQuestion("question-not-json", where=line.where, reason=getattr(err, "msg", err), next="") from err
    text, told = value.get("input", value.get("question")), value.get("instruction", instruction)
    usual = isinstance(text, str) and text.strip() and isinstance(told, str) and not isinstance(value, RepeatedKey)
    if usual and not reader.columns.given:
        rows.unused.update(key for key, held in value.items() if key not in READ and held not in NOTHING)
        return Question(str(text), str(told))
    if not isinstance(value, RepeatedKey):  # half characters are replaced: they are asked, not taught
        value = {key: valid_text(held) if isinstance(held, str) else held for key, held in value.items()}
    reader.take(Found(line.where, value), rows)
    return asked(rows[-1], instruction)


def is_good(line: Found, reader: Reader) -> bool:
    """Does a question stand there?"""
    try:
        return of_line(line, "", reader, Rows()) is not None
    except LensError:
        return False
