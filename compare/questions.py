"""Questions from the command line and from files: plain text, one a line, or JSON lines."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from compare.errors import BadQuestion


@dataclass(frozen=True)
class Question:
    text: str
    instruction: str = ""


def read_questions(path: Path, instruction: str = "") -> list[Question]:
    """The questions of a file; `input` (or `question`) and an optional `instruction` in JSON lines.

    Raises BadQuestion naming the line and what was found.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
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
