"""A data file → its lines of text, in bounded memory, whatever the file really is.

Decides the encoding by byte order mark (UTF-8, UTF-16, UTF-32; UTF-8 without one), opens gzip, and refuses
what is no text.
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
from typing import Any, TextIO

from lens.errors import BadInput

LONGEST_LINE = 1_000_000  # characters
HEAD = 4096  # bytes looked at to tell what a file is

MARKS = ((codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"), (codecs.BOM_UTF16_LE, "utf-16"),
         (codecs.BOM_UTF16_BE, "utf-16"), (codecs.BOM_UTF8, "utf-8-sig"))  # UTF-32's begins with UTF-16's
KINDS = ((b"\x1f\x8b", "gzip: let its name end in .gz"), (b"PAR1", "Parquet: let its name end in .parquet"),
         (b"PK\x03\x04", "a zip archive or spreadsheet: save the table as CSV"))


@dataclass(frozen=True, slots=True)
class Found:
    """What stood in one place of the data (here a line, later a parsed row), or in `problem` why it cannot be used."""

    where: str
    value: Any = None
    problem: str = ""


def check_file(path: Path) -> None:
    """Raises BadInput where `path` is no file that can be opened."""
    if path.is_dir():
        raise BadInput(f"data file {path} is a directory; name the files in it")
    if not path.exists():
        raise BadInput(f"data file {path} does not exist; give a file of rows")
    if not path.is_file():
        raise BadInput(f"data file {path} is a device or pipe; give an ordinary file")


def encoding_of(path: Path, head: bytes) -> str:
    """The encoding a file that begins with `head` is read in. Raises BadInput where it is no text."""
    for mark, encoding in MARKS:
        if head.startswith(mark):
            return encoding
    for magic, kind in KINDS:
        if head.startswith(magic):
            raise BadInput(f"data file {path} is not text but {kind}")
    if (at := head.find(b"\0")) >= 0:
        raise BadInput(f"data file {path} is not UTF-8 text (byte {at} is 0: binary, or UTF-16 without a byte "
                       "order mark); save it as UTF-8")
    return "utf-8"


@contextlib.contextmanager
def open_text(path: Path) -> Iterator[TextIO]:
    """The file as text, line ends as they stand. Raises BadInput, for faults met while reading too.

    A byte that is not UTF-8 becomes a lone surrogate, which `undecodable` finds in its own line; an exception
    of the decoder would only name a block of some thousand characters.
    """
    check_file(path)
    try:
        with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as raw:
            encoding = encoding_of(path, _peek(raw))
            with io.TextIOWrapper(raw, encoding=encoding, errors="surrogateescape", newline="") as text:
                yield text
    except (EOFError, zlib.error, gzip.BadGzipFile) as err:
        raise BadInput(f"data file {path} is broken gzip ({err}); compress or download it again") from err
    except UnicodeDecodeError as err:
        raise BadInput(f"data file {path} is not {err.encoding.upper()} as its byte order mark says ({err.reason}); "
                       "save it as UTF-8") from err
    except OSError as err:
        raise BadInput(f"data file {path} cannot be read ({err.strerror or err}); check the file and its "
                       "permissions") from err


def _peek(raw: gzip.GzipFile | io.BufferedReader) -> bytes:
    return raw.peek(HEAD)[:HEAD]


def undecodable(text: str, encoding: str) -> str:
    """Where `text` holds bytes that its encoding could not read, or ''."""
    if text.isascii():
        return ""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as err:
        name = "UTF-8" if encoding.startswith("utf-8") else encoding.upper()
        return (f"is not {name} text (byte 0x{ord(text[err.start]) & 0xff:02x} at character {err.start + 1}); "
                "save the file as UTF-8")
    return ""


def read_lines(path: Path, text: TextIO) -> Iterator[Found]:
    """The lines of an opened text, ends included. Of one that is too long no more than `LONGEST_LINE` is held."""
    number = 0
    while piece := text.readline(LONGEST_LINE + 1):
        number += 1
        where = f"{path} line {number}"
        if len(piece) <= LONGEST_LINE or piece.endswith("\n"):
            yield Found(where, piece, undecodable(piece, text.encoding))
            continue
        yield Found(where, problem=f"has more than {LONGEST_LINE:,} characters, at most {LONGEST_LINE:,} are allowed; "
                                   "put one row on each line")
        while piece and not piece.endswith("\n"):
            piece = text.readline(LONGEST_LINE)
