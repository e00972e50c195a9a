"""One text under base and adapted model, and a file of such lines that an interrupted run goes on from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from compare.analysis.token_shift import Position
from compare.corpus.texts import Text
from lens.strict_json import dumps, loads

DIGITS = 5


@dataclass(frozen=True)
class Measured:
    """Of each token: its id and text, KL(adapted‖base) at its place, and its log-probability under both, in nats."""

    key: str
    where: str
    source: str
    tags: list[str]
    ids: list[int]
    pieces: list[str]
    kl: list[float]
    base: list[float]
    adapted: list[float]

    @classmethod
    def of(cls, key: str, text: Text, positions: Iterable[Position]) -> Measured:
        found = list(positions)
        return cls(key, text.where, text.source, list(text.tags), list(text.ids), [p.text for p in found],
                   [round(p.kl, DIGITS) for p in found], [round(p.base.log_probability, DIGITS) for p in found],
                   [round(p.adapted.log_probability, DIGITS) for p in found])

    @property
    def mean_kl(self) -> float:
        return sum(self.kl) / len(self.kl)

    @property
    def risen(self) -> float:
        """By how much the cross-entropy rose from base to adapted, nats a token; below 0: it fell."""
        return (sum(self.base) - sum(self.adapted)) / len(self.ids)


def key_of(text: Text, settings: dict) -> str:
    """sha256 over all that a text's figures depend on."""
    asked = [text.prompt_ids, text.ids, text.where, text.tags, settings]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


class MeasuredFile:
    """texts.jsonl: a line a text, in their order. Read and written in one pass, a line at a time in memory."""

    def __init__(self, path: Path):
        self.file = path.open("a+b")
        self.file.seek(0)
        self.reading, self.kept = True, 0

    def __enter__(self) -> MeasuredFile:
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()

    def next(self, key: str) -> Measured | None:
        """The next line, if it is of this key. What is not, and all after it, is cut off: from there on is written."""
        if not self.reading:
            return None
        at = self.file.tell()
        if found := from_line(self.file.readline(), key):
            self.kept += 1
            return found
        self.reading = False
        self.file.truncate(at)
        return None

    def append(self, measured: Measured) -> None:
        self.file.write(dumps(asdict(measured)).encode("utf-8") + b"\n")
        self.file.flush()


def from_line(line: bytes, key: str) -> Measured | None:
    """A line read back; None for another's, or one that an interruption cut."""
    if not line.endswith(b"\n"):
        return None
    try:
        found = Measured(**loads(line.decode("utf-8")))
    except (ValueError, TypeError, RecursionError):
        return None
    return found if found.key == key else None
