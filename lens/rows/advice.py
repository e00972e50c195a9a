"""Which `--columns` would read rows whose keys are not known: a guess by common names, told only once it was tried."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from lens.errors import LensError
from lens.rows.columns import parse_columns, plain_key
from lens.rows.sources import Source

if TYPE_CHECKING:
    from lens.rows.rows import Reader

TRIED = 20  # rows at the beginning of a source that a suggestion has to fit, each of them
UNKNOWN_KEYS = ("row-keys-unknown", "row-field-missing", "row-column-missing", "row-preference")
ASKS = ("input", "question", "query", "prompt", "q", "ask", "asked", "user", "human", "problem", "request",
        "instruction", "问句", "提问", "用户")
ANSWERS = ("output", "answer", "response", "completion", "reply", "a", "answered", "target", "assistant", "bot", "gpt",
           "chosen", "solution", "result", "回复", "答复", "助手")
SYSTEMS = ("system", "systemprompt", "instruction", "role")


def suggest_columns(err: LensError, reader: Reader) -> str:
    """Options such as `--columns input=q output=a` that read the first rows, or ''."""
    if err.code not in UNKNOWN_KEYS:
        return ""
    values = [value for value, _ in reader.good(TRIED)]
    if not values or not all(isinstance(value, dict) for value in values):
        return ""
    names = guess(values[0])
    return "--columns " + " ".join(shlex.quote(name) for name in names) if names and works(names, reader) else ""


def guess(value: dict[str, Any]) -> list[str]:
    """`FIELD=KEY` of the keys that look like a question and its answer; empty where they do not."""
    turns = [key for key, held in value.items() if isinstance(held, list) and held and isinstance(held[0], dict)]
    if len(turns) == 1:
        return [f"messages={turns[0]}"]
    texts = {plain_key(key): key for key, held in value.items() if isinstance(held, str)}
    asked = next((texts[name] for name in ASKS if name in texts), None)
    answered = next((texts[name] for name in ANSWERS if name in texts), None)
    if len(texts) == 2 and (asked is None) != (answered is None):  # one is known, so the other is its counterpart
        other = next(key for key in texts.values() if key not in (asked, answered))
        asked, answered = asked or other, answered or other
    if asked is None or answered is None or asked == answered:
        return []
    system = next((texts[name] for name in SYSTEMS if name in texts and texts[name] not in (asked, answered)), None)
    return [f"input={asked}", f"output={answered}", *([f"instruction={system}"] if system else [])]


def works(names: list[str], reader: Reader) -> bool:
    """Do these columns read each of the first rows?"""
    columns, old = parse_columns(names), reader.source
    tried = type(reader)(Source(old.name, columns, old.encoding, old.answers), columns, reader.answers)
    rows = [row for _, row in tried.good(TRIED)]
    return bool(rows) and all(rows)
