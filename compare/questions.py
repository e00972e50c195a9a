"""Questions from files: plain text, one a line, or rows."""

from __future__ import annotations

import re
from pathlib import Path

from compare.engine.question import Question
from lens.errors import BadQuestion, first_line
from lens.rows.rows import read_question, read_rows
from lens.rows.sources import Source
from lens.strict_json import loads

LARGEST_FILE = 64 << 20  # bytes
LINES = re.compile(r"\.(jsonl|ndjson)$", re.IGNORECASE)


def read_questions(path: Path, instruction: str = "") -> list[Question]:
    """The questions of a file: text, one a line, or rows in any format that training reads, answers not needed; of a
    conversation the first.

    Raises BadQuestion or BadRows naming the line and what was found.
    """
    source = Source(str(path))
    if source.readable and not LINES.search(path.name):
        return [Question(row.turns[0][0], row.instruction or instruction) for row in read_rows([path], answers=False)]
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
        # `splitlines` would also split at U+2028 and the like, which may stand within a JSON text
        lines = content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    except UnicodeDecodeError as err:
        raise BadQuestion("questions-not-text", path=path) from err
    except (OSError, ValueError) as err:  # ValueError: a name no file system takes
        raise BadQuestion("questions-unreadable", path=path, reason=getattr(err, "strerror", err)) from err
    if len(content) > LARGEST_FILE:
        raise BadQuestion("questions-too-large", path=path, limit=LARGEST_FILE)
    found = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        if not line.lstrip().startswith("{"):
            found.append(Question(line, instruction))
            continue
        try:
            row = loads(line)
        except (ValueError, RecursionError) as err:
            raise BadQuestion("question-not-json", path=path, line=number, reason=first_line(err)) from err
        text, told = row.get("input", row.get("question")), row.get("instruction", instruction)
        if not isinstance(text, str) or not text.strip() or not isinstance(told, str):  # another format, or none
            asked = read_question(row, f"{path} line {number}")
            text, told = asked.turns[0][0], asked.instruction or instruction
        found.append(Question(text, told))
    if not found:
        raise BadQuestion("questions-none", path=path)
    return found
