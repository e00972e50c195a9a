"""JSON lines, and a JSON list, as one value after another with its line: neither is ever parsed as a whole."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from lens.errors import BadRows, Note
from lens.rows.lines import LONGEST_LINE, Found, open_text, read_lines, undecodable

SPACE = re.compile(r"[ \t\r\n]*")
BLOCK = 65_536  # characters read at a time


class RepeatedKey(dict[str, Any]):
    """A JSON object in which `key` stands twice, so that one of its values would be lost unseen."""

    key: str


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) == len(pairs):
        return value
    repeated = RepeatedKey(value)
    first: dict[str, int] = {}  # where each name stood first
    repeated.key = next(name for at, (name, _) in enumerate(pairs) if first.setdefault(name, at) != at)
    return repeated


DECODER = json.JSONDecoder(object_pairs_hook=_object)
FAULTS = (ValueError, RecursionError)  # ValueError, because an integer of 5,000 digits is no JSONDecodeError


def _reason(err: Exception, text: TextIO) -> str:
    """Why a text is no JSON, in the decoder's words; and its encoding where that is not UTF-8, and may be why."""
    what = getattr(err, "msg", "nested too deeply" if isinstance(err, RecursionError) else "a number too long")
    return what if text.encoding.startswith("utf-8") else f"{what}; read as {text.encoding.upper()}"


def read_json_lines(path: Path, encoding: str = "", notes: list[Note] | None = None) -> Iterator[Found]:
    """The value of each line that is not blank. Raises BadRows where the file cannot be read, or is one JSON list."""
    with open_text(path, encoding, notes) as text:
        for line in read_lines(path, text):
            if line.problem and str(line.value or "").lstrip().startswith("[{"):
                raise BadRows("json-list-in-lines", where=line.where, path=path)
            if line.problem:
                yield line
            elif line.value.strip():
                try:
                    value = DECODER.decode(line.value)
                except FAULTS as err:
                    if line.value.strip() in ("[", "{"):  # a list, or an object, over several lines
                        raise BadRows("json-over-lines", where=line.where, path=path) from err
                    commas = line.value.rstrip().endswith(("},", "],"))
                    reason = "a comma ends it; JSON lines have none between them" if commas else _reason(err, text)
                    yield Found(line.where, problem=BadRows("row-not-json", where=line.where, next="", reason=reason))
                    continue
                if isinstance(value, list) and value and isinstance(value[0], dict):
                    raise BadRows("json-list-in-lines", where=line.where, path=path)
                yield Found(line.where, value)


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

    def value(self, where: str) -> Found:
        """The value that begins here, stepped over. Raises one of FAULTS."""
        try:
            value, end = DECODER.raw_decode(self.held, self.at)
        except FAULTS:
            self.fill(LONGEST_LINE)  # it may only have been cut by the window's edge
            value, end = DECODER.raw_decode(self.held, self.at)
        bad = undecodable(where, self.held[self.at:end], self.text.encoding)
        self.advance(end)
        return Found(where, value, bad)

    def blame(self, path: Path, row: int, err: Exception) -> BadRows:
        """What to say of a value that cannot be decoded."""
        at = getattr(err, "pos", self.at)
        cut_off = at >= len(self.held) - 8 or "Unterminated" in str(err)
        if cut_off and len(self.held) - self.at >= LONGEST_LINE:
            return BadRows("row-line-too-long", where=f"{path} line {self.line}, row {row}", longest=LONGEST_LINE,
                           next="")
        line = self.line + self.held.count("\n", self.at, at)
        return BadRows("json-broken", where=f"{path} line {line}, row {row}", reason=_reason(err, self.text))


def read_json(path: Path, encoding: str = "", notes: list[Note] | None = None) -> Iterator[Found]:
    """The elements of the list that a .json file holds. Raises BadRows where it is none, or breaks off:
    after a fault of syntax nobody can say where the next row begins."""
    with open_text(path, encoding, notes) as text:
        window, row = _Window(text), 0
        if not (first := window.next()):
            return
        if first != "[":
            raise BadRows("json-object" if first == "{" else "json-no-list", where=f"{path} line {window.line}",
                          first=first)
        window.step()
        mark = window.next()
        while mark != "]":
            row, line = row + 1, window.line
            try:
                found = window.value(f"{path} line {line}, row {row}")
            except FAULTS as err:
                raise window.blame(path, row, err) from err
            yield found
            if (mark := window.next()) not in (",", "]"):
                raise BadRows("json-no-comma" if mark else "json-cut-off", where=f"{path} line {window.line}",
                              found=mark, row=row)
            if mark == ",":
                window.step()
                if window.next() == "]":
                    raise BadRows("json-trailing-comma", where=f"{path} line {window.line}", row=row)
        window.step()
        if rest := window.next():
            raise BadRows("json-after-list", where=f"{path} line {window.line}", found=rest)
