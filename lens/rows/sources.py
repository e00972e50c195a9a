"""Where rows come from: JSON, JSON lines, CSV (each also gzipped), Parquet, Arrow, or a dataset of `datasets`.

Yields what stood in each place, parsed and located; whether it is a good row is for `lens.rows.rows` to say.
Text is read by the standard library, a row at a time, because only so a fault has a line and CSV keeps `007` as
text; tables by pyarrow and `datasets`, memory-mapped, each imported when first needed.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, TextIO

from lens.base.identity import sha256_of
from lens.errors import BadRows, LensError, Note, first_line
from lens.rows.columns import Columns
from lens.rows.formats import recognise
from lens.rows.json_values import read_json, read_json_lines
from lens.rows.lines import Found, check_file, open_text, read_lines

ALLOWED = (".jsonl, .json, .csv, .tsv (each also with .gz), .parquet, .arrow, a folder that `datasets` saved, or a hub "
           "dataset, OWNER/NAME or OWNER/NAME:CONFIG")
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(:[\w.-]+)?")
BATCH = 1000  # rows of a table in memory at a time
SEPARATORS = (",", ";", "\t")
SAVED = ("dataset_info.json", "dataset_dict.json")  # what `save_to_disk` leaves in a folder


class Source:
    """One file, folder or hub dataset. Raises BadRows where all of it cannot be used.

    `columns` chooses what is read of a table; `encoding`: of a text file, "" to find out; `notes` gets what had to be
    guessed.
    """

    def __init__(self, name: str, columns: Columns | None = None, encoding: str = "", answers: bool = True):
        self.name, self.path, self.encoding, self.answers = name, Path(name), encoding, answers
        self.columns = columns or Columns()
        self.notes: list[Note] = []

    def __iter__(self) -> Iterator[Found]:
        """Every row-to-be."""
        self.notes.clear()
        if is_hub_name(self.name):
            return self._table(_load_hub(self.name))
        if is_saved_dataset(self.path):
            return self._table(_load_saved(self.path))
        check_file(self.path)
        if reader := self._reader():
            return reader()
        if self.path.suffix.lower() in (".xlsx", ".xls", ".ods"):
            raise BadRows("data-file-spreadsheet", path=self.path, allowed=ALLOWED)
        raise BadRows("data-file-suffix" if self.path.suffix else "data-file-no-suffix", path=self.path,
                      suffix=self.path.suffix, allowed=ALLOWED)

    @property
    def readable(self) -> bool:
        """Does its name say that it holds rows?"""
        return bool(self._reader()) or is_saved_dataset(self.path)

    @property
    def is_table_of_text(self) -> bool:
        """Does its name say that its first line names the columns?"""
        return self._reader() == self._csv

    def _reader(self) -> Callable[[], Iterator[Found]] | None:
        """How a file of this name is read."""
        text = self.path, self.encoding, self.notes
        json_lines, json = partial(read_json_lines, *text), partial(read_json, *text)
        known: dict[str, Callable[[], Iterator[Found]]] = {
            ".jsonl": json_lines, ".ndjson": json_lines, ".json": json, ".csv": self._csv, ".tsv": self._csv,
            ".parquet": self._parquet, ".arrow": self._arrow}
        return known.get(Path(self.path.name.lower().removesuffix(".gz")).suffix)

    def _csv(self) -> Iterator[Found]:
        """Rows of a table whose first line names the columns; every cell is text."""
        with open_text(self.path, self.encoding, self.notes) as text:
            lines = _sound_lines(self.path, text)
            usual, before, first = "\t" if ".tsv" in self.path.name.lower() else ",", 0, next(lines, "")
            while first and (not first.strip() or re.fullmatch(r"sep=.\s*", first)):
                usual = first[4] if first.strip() else usual  # Excel's own note of the separator
                before, first = before + 1, next(lines, "")
            separator = self._separator(first, usual)
            if separator != usual:
                self.notes.append(Note("read-separator", path=self.path, separator=repr(separator)))
            cells = csv.reader(chain([first], lines), delimiter=separator, strict=True)
            yield from self._cells(cells, before + 1)

    def _separator(self, line: str, usual: str) -> str:
        """The separator that gives a first line its columns: the usual one where it does that as well as another."""
        def fit(separator: str) -> tuple[bool, int, bool]:
            try:
                names = next(csv.reader([line], delimiter=separator), [])
                recognise(names, self.columns, "", self.answers)
                return True, len(names), separator == usual
            except (LensError, csv.Error):
                return False, line.count(separator), separator == usual
        return max((usual, *SEPARATORS), key=fit)

    def _cells(self, cells: Any, offset: int) -> Iterator[Found]:
        header: list[str] = []
        while True:
            where = f"{self.path} line {cells.line_num + offset}"
            try:
                row = next(cells, None)
            except csv.Error as err:
                raise BadRows("csv-broken", where=where, reason=err) from err
            if row is None:
                return
            if not row:  # a blank line
                continue
            if not header:
                header = [name or f"column {number}" for number, name in enumerate(row, 1)]
                _check_once(where, header)
            elif len(row) == len(header):
                yield Found(where, dict(zip(header, row, strict=True)))
            else:
                yield Found(where, problem=BadRows("row-cells", where=where, cells=len(row), expected=len(header),
                                                   next=""))

    def _parquet(self) -> Iterator[Found]:
        import pyarrow.parquet

        def batches() -> Iterator[Any]:
            with pyarrow.parquet.ParquetFile(self.path, memory_map=True) as file:
                names = file.schema_arrow.names
                wanted = self._wanted(names)
                yield names, wanted
                yield from file.iter_batches(batch_size=BATCH, columns=wanted)
        return self._batches(batches(), "Parquet")

    def _arrow(self) -> Iterator[Found]:
        import pyarrow

        def batches() -> Iterator[Any]:
            with pyarrow.memory_map(str(self.path)) as held:
                try:
                    file = pyarrow.ipc.open_file(held)
                    parts = (file.get_batch(i) for i in range(file.num_record_batches))
                except pyarrow.ArrowInvalid:  # `datasets` writes streams
                    held.seek(0)
                    parts = file = pyarrow.ipc.open_stream(held)
                wanted = self._wanted(file.schema.names)
                yield file.schema.names, wanted
                for batch in parts:
                    for start in range(0, batch.num_rows, BATCH):
                        yield batch.slice(start, BATCH).select(wanted)
        return self._batches(batches(), "Arrow")

    def _batches(self, batches: Iterator[Any], kind: str) -> Iterator[Found]:
        """Rows of a file's batches, whose first item is the names of its columns and those wanted."""
        import pyarrow

        number = 0
        try:
            names, wanted = next(batches)
            unread = tuple(name for name in names if name not in wanted)
            for batch in batches:
                for value in batch.to_pylist():
                    number += 1
                    yield Found(f"{self.path} row {number}", value, unread=unread)
        except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as err:
            raise BadRows("table-broken" if number else "table-broken-at-once", path=self.path, kind=kind, row=number,
                          reason=first_line(err)) from err

    def _table(self, dataset: Any) -> Iterator[Found]:
        """Rows of a loaded dataset, memory-mapped."""
        wanted = self._wanted(dataset.column_names)
        unread = tuple(name for name in dataset.column_names if name not in wanted)
        for number, value in enumerate(dataset.select_columns(wanted), 1):
            yield Found(f"{self.name} row {number}", value, unread=unread)

    def _wanted(self, names: list[str]) -> list[str]:
        """Those of a table's columns that are worth reading: all of them where it is not known what they are."""
        _check_once(f"data file {self.name}", names)
        try:
            layout = recognise(names, self.columns, self.name, self.answers)
        except LensError:
            return names
        return [name for name in names if name in layout.used or name in layout.left_out]


def _sound_lines(path: Path, text: TextIO) -> Iterator[str]:
    for line in read_lines(path, text):
        if line.problem:  # inside a quoted cell nobody can say where the next row begins
            raise line.problem
        yield line.value


def _check_once(where: str, names: list[str]) -> None:
    if twice := next((name for name, times in Counter(names).items() if times > 1), ""):
        raise BadRows("column-twice", where=where, column=twice[:40])


def is_hub_name(source: str) -> bool:
    """Does `source` name a dataset of the hub rather than a file?"""
    path = Path(source)
    return HUB_NAME.fullmatch(source) is not None and not path.exists() and not Source(source).readable


def is_saved_dataset(path: Path) -> bool:
    """Is this a folder that `datasets` saved?"""
    return any((path / name).is_file() for name in SAVED)


def describe_source(source: str) -> dict[str, str | None]:
    """How `training.json` names a source: no path of this machine, and the bytes' hash where it lies here."""
    if is_hub_name(source):
        return {"name": source, "sha256": None}
    path = Path(source)
    files = sorted(path.rglob("*.arrow")) if path.is_dir() else [path]
    return {"name": path.resolve().name, "sha256": sha256_of(files)}


def _load_saved(path: Path) -> Any:
    """A folder that `datasets` saved; of several splits the one called `train`. Raises BadRows."""
    import datasets

    try:
        found = datasets.load_from_disk(str(path))
    except (OSError, ValueError, KeyError, TypeError, datasets.exceptions.DatasetsError) as err:
        raise BadRows("saved-dataset-broken", path=path, reason=first_line(err)) from err
    if not isinstance(found, dict):
        return found
    if "train" not in found and len(found) != 1:
        raise BadRows("saved-dataset-splits", path=path, splits=", ".join(found))
    return found["train"] if "train" in found else next(iter(found.values()))


def _load_hub(source: str) -> Any:
    """The split `train` of a hub dataset, memory-mapped from the cache that `datasets` keeps. Raises BadRows."""
    import datasets

    name, _, config = source.partition(":")
    try:
        try:
            return datasets.load_dataset(name, config or None, split="train")
        except RuntimeError as err:
            if "scripts are no longer supported" not in str(err):
                raise
            # HC3 has a loading script; the hub keeps a Parquet copy of such datasets (huggingface/datasets 8012)
            return datasets.load_dataset(name, config or None, split="train", revision="refs/convert/parquet")
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as err:
        raise BadRows("hub-dataset", source=source, reason=first_line(err)) from err
