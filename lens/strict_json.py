"""JSON as RFC 8259 has it, both ways: no NaN, no Infinity, no key twice, no text that steers a terminal.

Written: a float that is no finite number becomes null; characters that could steer a terminal are \\uXXXX, which reads
back as the same text; half a surrogate pair becomes a question mark.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

from lens.terminal_text import STEERING

LARGEST = 1 << 20  # bytes of a file that is read whole, unless told otherwise
ESCAPED = re.compile(f"[{''.join(chr(code) for code in STEERING if 0x7f <= code < 0xd800)}]")


def finite(value: Any) -> Any:
    """The value with None for every float that is no finite number."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(one) for key, one in value.items()}
    return [finite(one) for one in value] if isinstance(value, (list, tuple)) else value


def dumps(value: Any, indent: int | None = None, ascii: bool = False) -> str:
    """One JSON text. Raises TypeError for what JSON cannot hold."""
    try:
        text = json.dumps(value, ensure_ascii=ascii, indent=indent, allow_nan=False)
    except ValueError:
        text = json.dumps(finite(value), ensure_ascii=ascii, indent=indent, allow_nan=False)
    text = ESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
    return text.encode("utf-8", "replace").decode("utf-8")


def each_once(pairs: Iterable[tuple[str, object]]) -> dict[str, Any]:
    """A JSON object; raises ValueError for a key that stands twice, of which readers take different ones."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"key {key[:40]!r} stands twice")
        found[key] = value
    return found


def no_number(name: str) -> NoReturn:
    raise ValueError(f"{name[:20]} is no number of JSON")


def a_float(digits: str) -> float:
    """A number with a point or exponent; 1e999 is none that a float can hold."""
    value = float(digits)
    return value if math.isfinite(value) else no_number(digits)


def loads(text: str) -> Any:
    """One JSON text read strictly. Raises ValueError or RecursionError."""
    return json.loads(text, object_pairs_hook=each_once, parse_constant=no_number, parse_float=a_float)


def parse_object(text: bytes) -> dict[str, Any]:
    """Strict JSON in UTF-8 with an object outermost. Raises ValueError or RecursionError."""
    value = loads(text.decode("utf-8"))
    if not isinstance(value, dict):
        raise ValueError(f"it holds {type(value).__name__}, expected an object")
    return value


def read_object(path: Path, limit: int = LARGEST) -> dict[str, Any]:
    """The object in a file of at most `limit` bytes. Raises ValueError, RecursionError or OSError."""
    with path.open("rb") as file:
        text = file.read(limit + 1)
    if len(text) > limit:
        raise ValueError(f"it has more than {limit:,} bytes, at most that many are allowed")
    return parse_object(text)
