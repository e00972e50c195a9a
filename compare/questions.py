"""Questions from the command line and from files: plain text, one a line, or JSON lines."""

from __future__ import annotations

import json
from pathlib import Path

from compare.engine.question import Question
from lens.errors import BadQuestion

LARGEST_FILE = 64 << 20  # bytes


def read_questions(path: Path, instruction: str = "") -> list[Question]:
    """The questions of a file; `input` (or `question`) and an optional `instruction` in JSON lines.

    Raises BadQuestion naming the line and what was found.
    """
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
        if len(content) > LARGEST_FILE:
            raise BadQuestion(f"--questions {path} has more than {LARGEST_FILE:,} bytes; give it in parts")
        # `splitlines` would also split at U+2028 and the like, which may stand within a JSON text
        lines = content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    except (OSError, UnicodeDecodeError) as err:
        reason = "is not UTF-8 text" if isinstance(err, UnicodeDecodeError) else f"cannot be read ({err.strerror})"
        raise BadQuestion(f"--questions {path} {reason}; give a text file or JSON lines") from err
    found = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        if not line.lstrip().startswith("{"):
            found.append(Question(line, instruction))
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as err:
            raise BadQuestion(f"{path} line {number} is not JSON ({err}); expected an object with `input`") from err
        text = row.get("input", row.get("question"))
        told = row.get("instruction", instruction)
        if not isinstance(text, str) or not isinstance(told, str):
            raise BadQuestion(f"{path} line {number}: expected text in `input` (or `question`) and `instruction`")
        found.append(Question(text, told))
    if not found:
        raise BadQuestion(f"--questions {path} holds no question; expected one a line")
    return found
