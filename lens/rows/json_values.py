"""JSON lines, and a JSON list, as one value after another with its line: neither is ever parsed as a whole."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from lens.errors import BadInput
from lens.rows.lines import LONGEST_LINE, Found, open_text, read_lines, undecodable

SPACE = re.compile(r"[ \t\r\n]*")
BLOCK = 65_536  # characters read at a time


class RepeatedKey(dict):
    """A JSON object in which `key` stands twice, so that one of its values would be lost unseen."""

    key: str


def _object(pairs: list[tuple[str, Any]]) -> dict:
    value = dict(pairs)
    if len(value) == len(pairs):
        return value
    repeated = RepeatedKey(value)
    first: dict[str, int] = {}  # where each name stood first
    repeated.key = next(name for at, (name, _) in enumerate(pairs) if first.setdefault(name, at) != at)
    return repeated


DECODER = json.JSONDecoder(object_pairs_hook=_object)
FAULTS = (ValueError, RecursionError)  # ValueError, because an integer of 5,000 digits is no JSONDecodeError


def _not_json(err: Exception, text: TextIO) -> str:
    what = getattr(err, "msg", "nested too deeply" if isinstance(err, RecursionError) else "a number too long")
    if not text.encoding.startswith("utf-8"):
        what += f"; read as {text.encoding.upper()}, not UTF-8, because of its byte order mark"
    return f"is not JSON ({what})"


def read_json_lines(path: Path) -> Iterator[Found]:
    """The value of each line that is not blank. Raises BadInput where the file cannot be read."""
    with open_text(path) as text:
        for line in read_lines(path, text):
            if line.problem:
                yield line
            elif line.value.strip():
                try:
                    yield Found(line.where, DECODER.decode(line.value))
                except FAULTS as err:
                    yield Found(line.where, problem=f"{_not_json(err, text)}; expected one object a line, or "
                                                    "a list in a .json file")


class _Window:
    """The stretch of a text that is being parsed, and the line where its unread part begins."""

    def __init__(self, text: TextIO):
        self.text, self.held, self.at, self.line = text, "", 0, 1

    def fill(self, length: int) -> None:
        """Hold at least `length` unread characters, or all that are left."""
        if (short := length - (len(self.held) - self.at)) > 0:
            self.held, self.at = self.held[self.at:] + self.text.read(short), 0

    def advance(self, end: int) -> None:
        self.line += self.held.count("\n", self.at, end)
        self.at = end

    def next(self) -> str:
        """The next character that is not space, left unread; '' at the end."""
        while True:
            self.advance(SPACE.match(self.held, self.at).end())  # type: ignore[union-attr]
            if self.at < len(self.held):
                return self.held[self.at]
            self.fill(BLOCK)
            if not self.held:
                return ""

    def step(self) -> None:
        self.advance(self.at + 1)

    def value(self) -> tuple[Any, str]:
        """(the value that begins here, what is wrong with its bytes), stepped over. Raises one of FAULTS."""
        try:
            value, end = DECODER.raw_decode(self.held, self.at)
        except FAULTS:
            self.fill(LONGEST_LINE)  # it may only have been cut by the window's edge
            value, end = DECODER.raw_decode(self.held, self.at)
        bad = undecodable(self.held[self.at:end], self.text.encoding)
        self.advance(end)
        return value, bad

    def blame(self, path: Path, row: int, err: Exception) -> str:
        """The sentence for a value that cannot be decoded."""
        at = getattr(err, "pos", self.at)
        cut_off = at >= len(self.held) - 8 or "Unterminated" in str(err)
        if cut_off and len(self.held) - self.at >= LONGEST_LINE:
            return (f"{path} line {self.line}, row {row} has more than {LONGEST_LINE:,} characters, "
                    f"at most {LONGEST_LINE:,} are allowed")
        line = self.line + self.held.count("\n", self.at, at)
        return f"{path} line {line}, row {row} {_not_json(err, self.text)}; expected a list of objects"


def read_json(path: Path) -> Iterator[Found]:
    """The elements of the list that a .json file holds. Raises BadInput where it is none, or breaks off:
    after a fault of syntax nobody can say where the next row begins."""
    with open_text(path) as text:
        window, row = _Window(text), 0
        if not (first := window.next()):
            return
        if first != "[":
            what = "an object" if first == "{" else f"text that begins with {first!r}"
            raise BadInput(f"data file {path} line {window.line} holds {what}, expected a list of rows, "
                           "[{…}, {…}]; if it has one object a line, let its name end in .jsonl")
        window.step()
        mark = window.next()
        while mark != "]":
            row, line = row + 1, window.line
            try:
                value, bad = window.value()
            except FAULTS as err:
                raise BadInput(window.blame(path, row, err)) from err
            yield Found(f"{path} line {line}, row {row}", value, bad)
            if (mark := window.next()) not in (",", "]"):
                raise BadInput(f"{path} line {window.line}: found {repr(mark) if mark else 'the end'} after row {row}, "
                               "expected a comma or the list's end ]")
            if mark == ",":
                window.step()
                window.next()
        window.step()
        if rest := window.next():
            raise BadInput(f"{path} line {window.line}: found {rest!r} after the list's end; expected nothing more")
