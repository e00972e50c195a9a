"""A data file → its lines of text, in bounded memory, whatever the file really is.

The encoding is the one asked for, or what a byte order mark says (UTF-8, UTF-16, UTF-32), or UTF-8; text that is not
UTF-8 and plainly Chinese in GB18030 (`lens.rows.gb18030`) is taken for that, and said with the ground for it. Opens
gzip, and refuses what is no text.
"""

from __future__ import annotations

import codecs
import contextlib
import gzip
import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from lens.errors import BadRows, LensError, Note
from lens.rows.gb18030 import chinese_in_gb18030

LONGEST_LINE = 1_000_000  # characters
SAMPLE = 1 << 18  # bytes looked at to tell what a file is

MARKS = ((codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"), (codecs.BOM_UTF16_LE, "utf-16"),
         (codecs.BOM_UTF16_BE, "utf-16"), (codecs.BOM_UTF8, "utf-8-sig"))  # UTF-32's begins with UTF-16's
KINDS = ((b"\x1f\x8b", "data-file-is-gzip"), (b"PAR1", "data-file-is-parquet"), (b"ARROW1", "data-file-is-arrow"),
         (b"PK\x03\x04", "data-file-is-archive"))


@dataclass(frozen=True, slots=True)
class Found:
    """What stood in one place of the data (here a line, later a parsed row), or in `problem` why it cannot be used.

    `unread`: names of columns beside it that were not read.
    """

    where: str
    value: Any = None
    problem: LensError | None = None
    unread: tuple[str, ...] = ()


def check_file(path: Path) -> None:
    """Raises BadRows where `path` is no file that can be opened."""
    if path.is_dir():
        raise BadRows("data-file-directory", path=path)
    if not path.exists():
        raise BadRows("data-file-missing", path=path)
    if not path.is_file():
        raise BadRows("data-file-device", path=path)


def check_encoding(name: str) -> str:
    """The encoding of that name, as Python has it. Raises BadRows."""
    try:
        return {"utf-8": "utf-8-sig"}.get(known := codecs.lookup(name).name, known)
    except LookupError as err:
        raise BadRows("encoding-unknown", name=name[:40]) from err


def encoding_of(path: Path, head: bytes) -> str:
    """The encoding a file that begins with `head` is read in. Raises BadRows where it is no text."""
    for mark, encoding in MARKS:
        if head.startswith(mark):
            return encoding
    for magic, code in KINDS:
        if head.startswith(magic):
            raise BadRows(code, path=path)
    if (at := head.find(b"\0")) >= 0:
        zeros = [head[start:4096:2].count(b"\0") for start in (0, 1)]  # ASCII in UTF-16 has them at every other place
        if min(zeros) * 4 < max(zeros):
            raise BadRows("data-file-utf-16", path=path, encoding="utf-16-be" if zeros[0] > zeros[1] else "utf-16-le")
        raise BadRows("data-file-binary", path=path, at=at)
    return "gb18030" if chinese_in_gb18030(head) else "utf-8"


@contextlib.contextmanager
def open_text(path: Path, encoding: str = "", notes: list[Note] | None = None) -> Iterator[TextIO]:
    """The file as text, line ends as they stand. Raises BadRows, for faults met while reading too.

    `encoding`: the one to read it in, "" to find out; one that had to be guessed is told in `notes`. A byte that is
    not of it becomes a lone surrogate, which `undecodable` finds in its own line; an exception of the decoder would
    only name a block of some thousand characters.
    """
    check_file(path)
    try:
        with _open(path) as raw:
            head = raw.read(SAMPLE)
        with _open(path) as raw, as_text(path, raw, head, encoding, notes) as text:
            yield text
    except (EOFError, zlib.error, gzip.BadGzipFile) as err:
        raise BadRows("data-file-broken-gzip", path=path, reason=err) from err
    except UnicodeDecodeError as err:
        raise BadRows("data-file-broken-encoding", path=path, encoding=err.encoding.upper(), reason=err.reason) from err
    except OSError as err:
        raise BadRows("data-file-unreadable", path=path, reason=err.strerror or err) from err


def as_text(path: Path, raw: BinaryIO, head: bytes, encoding: str, notes: list[Note] | None) -> TextIO:
    """The bytes of `raw`, which begins with `head`, as text; see `open_text`. Raises BadRows where they are no text."""
    known = check_encoding(encoding) if encoding else encoding_of(path, head)
    if not encoding and notes is not None and known == "gb18030" and (found := chinese_in_gb18030(head)):
        notes.append(Note("read-as-gb18030", path=path, text=repr(found.text), common=found.common, count=found.count))
    return io.TextIOWrapper(raw, encoding=known, errors="surrogateescape", newline="")


def _open(path: Path) -> Any:
    return gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb")


def undecodable(where: str, text: str, encoding: str) -> BadRows | None:
    """What to say where `text` holds bytes that its encoding could not read."""
    if text.isascii():
        return None
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as err:
        name = "UTF-8" if encoding.startswith("utf-8") else encoding.upper()
        return BadRows("row-undecodable", where=where, encoding=name, byte=f"0x{ord(text[err.start]) & 0xff:02x}",
                       at=err.start + 1, next="")
    return None


def read_lines(path: Path, text: TextIO) -> Iterator[Found]:
    """The lines of an opened text, ends included. Of one that is too long no more than `LONGEST_LINE` is held."""
    number = 0
    while piece := text.readline(LONGEST_LINE + 1):
        number += 1
        where = f"{path} line {number}"
        if len(piece) <= LONGEST_LINE or piece.endswith("\n"):
            yield Found(where, piece, undecodable(where, piece, text.encoding))
            continue
        yield Found(where, piece[:100], BadRows("row-line-too-long", where=where, longest=LONGEST_LINE, next=""))
        while piece and not piece.endswith("\n"):
            piece = text.readline(LONGEST_LINE)
