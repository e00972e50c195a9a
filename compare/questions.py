"""Questions from the command line and from files: plain text, one a line, or JSON lines."""

from __future__ import annotations

from pathlib import Path

from compare.engine.question import Question
from lens.errors import BadQuestion, first_line
from lens.strict_json import loads

LARGEST_FILE = 64 << 20  # bytes


def read_questions(path: Path, instruction: str = "") -> list[Question]:
    """The questions of a file; `input` (or `question`) and an optional `instruction` in JSON lines.

    Raises BadQuestion naming the line and what was found.
    """
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
        text = row.get("input", row.get("question"))
        told = row.get("instruction", instruction)
        if not isinstance(text, str) or not isinstance(told, str):
            raise BadQuestion("question-not-text", path=path, line=number)
        found.append(Question(text, told))
    if not found:
        raise BadQuestion("questions-none", path=path)
    return found
