"""Where rows come from: JSON, JSON lines, CSV (each also gzipped), Parquet, or a dataset of the hub.

Yields what stood in each place, parsed and located; whether it is a good row is for `lens.rows.rows` to say.
Text is read by the standard library, a row at a time, because only so a fault has a line and CSV keeps `007` as
text; Parquet by pyarrow and the hub by `datasets`, memory-mapped, each imported when first needed.
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TextIO

from lens.errors import BadInput, first_line
from lens.rows.columns import Columns
from lens.rows.json_values import read_json, read_json_lines
from lens.rows.lines import Found, check_file, open_text, read_lines

ALLOWED = ".jsonl, .json, .csv, .tsv (each also with .gz), .parquet, or a hub dataset, OWNER/NAME or OWNER/NAME:CONFIG"
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(:[\w.-]+)?")
BATCH = 1000  # rows of a Parquet file in memory at a time

Reader = Callable[[Path, Columns], Iterator[Found]]


def read_source(source: str, columns: Columns) -> Iterator[Found]:
    """Every row-to-be of one file or hub dataset. Raises BadInput where all of it cannot be used."""
    path = Path(source)
    if is_hub_name(source):
        return _read_hub(source, columns)
    check_file(path)
    if reader := _reader(path):
        return reader(path, columns)
    raise BadInput(f"data file {path} ends in {repr(path.suffix) if path.suffix else 'no suffix'}; allowed: {ALLOWED}")


def is_hub_name(source: str) -> bool:
    """Does `source` name a dataset of the hub rather than a file?"""
    return HUB_NAME.fullmatch(source) is not None and not _reader(Path(source)) and not Path(source).exists()


def describe_source(source: str) -> dict[str, str | None]:
    """How `training.json` names a source: no path of this machine, and the bytes' hash where it is a file."""
    if is_hub_name(source):
        return {"name": source, "sha256": None}
    with Path(source).open("rb") as f:
        return {"name": Path(source).name, "sha256": hashlib.file_digest(f, "sha256").hexdigest()}


def _reader(path: Path) -> Reader | None:
    """How a file of this name is read."""
    name = path.name.lower()
    readers: dict[str, Reader] = {
        ".jsonl": _read_json_lines, ".ndjson": _read_json_lines, ".json": _read_json, ".csv": _read_csv,
        ".tsv": partial(_read_csv, delimiter="\t"), ".parquet": _read_parquet}
    return readers.get(Path(name.removesuffix(".gz")).suffix)


def _read_json_lines(path: Path, columns: Columns) -> Iterator[Found]:
    return read_json_lines(path)


def _read_json(path: Path, columns: Columns) -> Iterator[Found]:
    return read_json(path)


def _check_columns(where: str, names: list[str], columns: Columns) -> None:
    if problem := columns.problem(names):
        raise BadInput(f"{where}: {problem}")


def _sound_lines(path: Path, text: TextIO) -> Iterator[str]:
    for line in read_lines(path, text):
        if line.problem:  # inside a quoted cell nobody can say where the next row begins
            raise BadInput(f"{line.where} {line.problem}")
        yield line.value


def _read_csv(path: Path, columns: Columns, delimiter: str = ",") -> Iterator[Found]:
    """Rows of a table whose first line names the columns; every cell is text."""
    with open_text(path) as text:
        cells = csv.reader(_sound_lines(path, text), delimiter=delimiter, strict=True)
        header: list[str] = []
        while True:
            where = f"{path} line {cells.line_num + 1}"
            try:
                row = next(cells, None)
            except csv.Error as err:
                raise BadInput(f"{where} begins no whole CSV row ({err}); put text with commas, quotes or line ends "
                               'in double quotes, and double the quotes in it ("")') from err
            if row is None:
                return
            if not row:  # a blank line
                continue
            if not header:
                header = row
                _check_columns(where, header, columns)
            elif len(row) == len(header):
                yield Found(where, dict(zip(header, row, strict=True)))
            else:
                yield Found(where, problem=f"has {len(row)} cells, expected {len(header)} as in the first line; put "
                                           "text with commas in double quotes")


def _read_parquet(path: Path, columns: Columns) -> Iterator[Found]:
    import pyarrow
    import pyarrow.parquet

    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path, memory_map=True) as file:
            names = file.schema_arrow.names
            _check_columns(f"data file {path}", names, columns)
            for batch in file.iter_batches(batch_size=BATCH, columns=columns.wanted(names)):
                for value in batch.to_pylist():
                    number += 1
                    yield Found(f"{path} row {number}", value)
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as err:
        place = f" after row {number}" if number else ""
        raise BadInput(f"data file {path} is broken as Parquet{place} ({first_line(err)}); write or download it "
                       "again") from err


def _read_hub(source: str, columns: Columns) -> Iterator[Found]:
    """The split `train` of a hub dataset, memory-mapped from the cache that `datasets` keeps."""
    dataset = _load_hub(source)
    _check_columns(f"dataset {source}", dataset.column_names, columns)
    for number, value in enumerate(dataset.select_columns(columns.wanted(dataset.column_names)), 1):
        yield Found(f"{source} row {number}", value)


def _load_hub(source: str):
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
        raise BadInput(f"{source} is no file here, and as a hub dataset it cannot be loaded ({first_line(err)}); "
                       "check the name and the network, or download a file of rows and name that") from err
