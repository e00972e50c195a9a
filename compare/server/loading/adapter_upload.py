"""An uploaded adapter, a zip or its files, laid into a directory of ours. What is in it is lens.adapter's to judge.

A zip is written by whoever sent it: names that lead out, links, devices, names that stand twice, and more than is
allowed are refused before anything is written, and what a header says of a size is not believed.
"""

from __future__ import annotations

import shutil
import stat
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from lens.adapter.find import CONFIG, PROMPTS
from lens.adapter.weights import WEIGHTS
from lens.errors import BadAdapter, BadSetting, first_line

ALONE = (CONFIG, WEIGHTS, *PROMPTS, "training.json", "README.md")  # files that may be sent as they are
MOST_ENTRIES = 200
UNPACKED = 10  # times the largest upload; weights hardly shrink, a tokenizer to a third
CHUNK = 1 << 20  # bytes
BROKEN = (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, ValueError, OSError)


def name_of(files: Sequence[Path]) -> str:
    """What an adapter that came in these files is called: as the zip is."""
    stem = files[0].stem if len(files) == 1 else ""
    name = "".join(c for c in stem if c.isprintable() and c not in '/\\:@,').strip(" .")
    return name[:60] or "uploaded"


def lay_out(files: Sequence[Path], folder: Path, largest: int) -> None:
    """Fill `folder`, which is empty. `largest`: bytes of all files together. Raises BadAdapter or BadSetting."""
    size = sum(file.stat().st_size for file in files)
    if size > largest:
        raise BadAdapter("upload-too-large", size=size, most=largest)
    if len(files) == 1 and files[0].suffix.lower() == ".zip":
        return unpack(files[0], folder, UNPACKED * largest)
    names = [file.name for file in files]
    if not {CONFIG, WEIGHTS} <= set(names) <= set(ALONE) or len(set(names)) < len(names):
        raise BadSetting("upload-files", names=", ".join(repr(name[:40]) for name in names[:8]) or "—")
    for file in files:
        shutil.copyfile(file, folder / file.name)


def unpack(file: Path, folder: Path, most: int) -> None:
    """Every regular file of a zip, `most` bytes in all. Raises BadAdapter."""
    try:
        with zipfile.ZipFile(file) as packed:
            entries = packed.infolist()
            check(file.name, entries, most)
            for entry in entries:
                if not entry.is_dir():
                    most -= write(packed, entry, folder / PurePosixPath(entry.filename), most)
    except BROKEN as err:
        if isinstance(err, BadAdapter):
            raise
        raise BadAdapter("zip-unreadable", file=file.name[:80], reason=first_line(err)) from err


def check(file: str, entries: Sequence[zipfile.ZipInfo], most: int) -> None:
    """By what the zip says of itself. Raises BadAdapter."""
    if len(entries) > MOST_ENTRIES:
        raise BadAdapter("zip-entries", file=file[:80], entries=len(entries), most=MOST_ENTRIES)
    seen: set[str] = set()
    for entry in entries:
        about = {"file": file[:80], "entry": repr(entry.orig_filename)[:80]}
        if leads_out(entry.orig_filename):
            raise BadAdapter("zip-leads-out", **about)
        if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise BadAdapter("zip-link", **about)
        if entry.flag_bits & 1:
            raise BadAdapter("zip-encrypted", **about)
        if (name := str(PurePosixPath(entry.filename)).casefold()) in seen:
            raise BadAdapter("zip-twice", **about)
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise NotImplementedError(f"compression method {entry.compress_type}")
        seen.add(name)
    if (size := sum(entry.file_size for entry in entries)) > most:
        raise BadAdapter("zip-too-large", file=file[:80], size=size, most=most)


def leads_out(name: str) -> bool:
    """Is it anything but a plain path below the directory, on any system?"""
    path = PurePosixPath(name)
    return (path.is_absolute() or not path.parts or ".." in path.parts or any(c in name for c in "\\:")
            or not name.isprintable())


def write(packed: zipfile.ZipFile, entry: zipfile.ZipInfo, place: Path, most: int) -> int:
    """One file, `most` bytes long; how many it has."""
    place.parent.mkdir(parents=True, exist_ok=True)
    size = 0
    with packed.open(entry) as source, place.open("xb") as target:
        while chunk := source.read(CHUNK):
            size += len(chunk)
            if size > most:
                raise BadAdapter("zip-too-large", file=Path(str(packed.filename)).name[:80], size=size, most=most)
            target.write(chunk)
    return size
