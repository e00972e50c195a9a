"""Finished answers on disk, a line a question, so that an interrupted run goes on where it stopped.

A line is found again by a key over everything that the answers depend on. Several processes write a file each.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from compare.report.measures import Answer
from compare.report.rows import Row
from lens.strict_json import dumps, loads

FORMAT = 1  # raised when an answer's fields change their meaning


def key(row: Row, settings: dict) -> str:
    """sha256 over a question with its reference and the settings (base, adapter, strengths, sampling …)."""
    asked = {name: value for name, value in row.as_dict().items() if name != "index"}
    text = json.dumps([FORMAT, asked, settings], ensure_ascii=False, sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True)
class Result:
    """One question's answers, in the order of their variants."""

    key: str
    answers: tuple[Answer, ...]

    def as_line(self) -> str:
        return dumps({"key": self.key, "answers": [asdict(a) for a in self.answers]})


def from_line(line: str) -> Result | None:
    """A line read back; None for one that was cut by an interruption or is of another version."""
    try:
        value = loads(line)
        return Result(value["key"], tuple(Answer.from_dict(a) for a in value["answers"]))
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def results_in(path: Path) -> list[Result]:
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    return [result for line in lines if (result := from_line(line))]


class ResultsFile:
    """results.jsonl of process 0, results-RANK.jsonl of the others, in one directory."""

    def __init__(self, directory: Path, rank: int = 0):
        self.directory = directory
        self.path = directory / (f"results-{rank}.jsonl" if rank else "results.jsonl")

    def read(self) -> dict[str, Result]:
        """All finished results in the directory, whoever wrote them, by key."""
        return {result.key: result for path in sorted(self.directory.glob("results*.jsonl"))
                for result in results_in(path)}

    def append(self, result: Result) -> None:
        """Write one line and hand it to the system, so that it outlives this process."""
        with self.path.open("ab+") as file:
            file.seek(0, os.SEEK_END)
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    file.write(b"\n")  # the last line was cut
            file.write(result.as_line().encode("utf-8", "replace") + b"\n")

    def keep(self, results: Iterable[Result]) -> None:
        """Append those that this process's own file lacks, such as other processes' answers."""
        own = {result.key for result in results_in(self.path)} if self.path.exists() else set()
        for result in results:
            if result.key not in own:
                self.append(result)

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
