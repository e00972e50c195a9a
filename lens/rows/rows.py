"""Sources of question-answer data → checked rows, and all that is to be told of them before they are used."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from lens.errors import BadRows, LensError, Note
from lens.rows.advice import suggest_columns
from lens.rows.columns import Columns, parse_columns, plain_key
from lens.rows.formats import Layout, recognise
from lens.rows.json_values import RepeatedKey
from lens.rows.lines import Found
from lens.rows.row import NOTHING, Row, Taken, bad
from lens.rows.sources import Source

__all__ = ["Row", "Rows", "read_rows"]
MOST_SKIPPED = 100_000  # bad rows that `--skip-bad-rows` passes over; each leaves a sentence
PROBED = 1000  # places of a source that are looked at for a good row, before skipping the bad ones is advised
TAG = "tag"  # the field of a row that names its slice, unless another is named


class Rows(list[Row]):
    """The rows of a run, and what was passed over or guessed on the way to them."""

    def __init__(self, rows: Iterable[Row] = (), skipped: Iterable[LensError] = (), refusals: int = 0):
        super().__init__(rows)
        self.skipped = list(skipped)  # one for each bad row
        self.refusals = refusals  # answers of HC3 that decline to answer, and questions without one
        self.open_questions = 0  # conversations whose last turn asks, and nothing answers
        self.formats: Counter[str] = Counter()  # format → places read as it
        self.unused: Counter[str] = Counter()  # key → places where it held something and was not used
        self.alike: Counter[tuple[str, str]] = Counter()  # (key, the known name it was read as) → places
        self.guessed: list[Note] = []  # encodings, separators

    @property
    def duplicates(self) -> int:
        """Rows whose texts another row before them already has."""
        return len(self) - len(set(self))

    @property
    def content(self) -> str:
        """sha256 of all texts in their order, whatever file and format they came in."""
        found = hashlib.sha256()
        for row in self:
            found.update(json.dumps([row.instruction, row.turns]).encode())
        return found.hexdigest()

    def of(self, rows: Iterable[Row]) -> Rows:
        """Some of these rows, with all that is known of the whole."""
        some = Rows(rows)
        some.__dict__.update(self.__dict__)
        return some

    def skip(self, problem: LensError) -> None:
        """Count a bad row. Raises BadRows once there are so many that the file must be another than was meant."""
        self.skipped.append(problem)
        if len(self.skipped) > MOST_SKIPPED:
            raise BadRows("rows-too-many-bad", most=MOST_SKIPPED, first=self.skipped[0])

    def add(self, taken: Taken) -> None:
        self.extend(taken.rows)
        self.refusals += taken.refusals
        self.open_questions += taken.open_questions

    def notes(self) -> list[Note]:
        """What is to be told of them, most important first."""
        said = [Note("read-as", format=name, places=count) for name, count in self.formats.most_common()]
        said += self.guessed
        said += [Note("read-key-as", key=repr(key[:40]), name=name, places=count)
                 for (key, name), count in self.alike.most_common(8)]
        said += [Note("unused-field", key=repr(key[:40]), places=count) for key, count in self.unused.most_common(12)]
        if len(self.unused) > 12:
            said.append(Note("unused-fields-more", count=len(self.unused) - 12))
        if self.open_questions:
            said.append(Note("open-questions", count=self.open_questions))
        if self.refusals:
            said.append(Note("refusals-left-out", count=self.refusals))
        if self.skipped:
            said.append(Note("bad-rows-skipped", count=len(self.skipped), first=self.skipped[0]))
        return said


class Reader:
    """Turns what stands in one source into rows. `keep`: rows keep their unused fields."""

    def __init__(self, source: Source, columns: Columns, answers: bool = True, keep: bool = False):
        self.source, self.columns, self.answers, self.keep = source, columns, answers, keep
        self.layouts: dict[tuple[str, ...], Layout] = {}  # by the keys of a row

    def layout(self, names: tuple[str, ...], where: str) -> Layout:
        if (known := self.layouts.get(names)) is None:
            known = recognise(names, self.columns, where, self.answers)
            if len(self.layouts) < 10_000:
                self.layouts[names] = known
        return known

    def take(self, found: Found, rows: Rows) -> None:
        """Append the row, or the rows, that stood in one place. Raises BadRows, none of them appended."""
        if found.problem:
            raise found.problem
        value, where = found.value, found.where
        if not isinstance(value, dict):
            raise bad("row-no-object", where, found=type(value).__name__)
        if isinstance(value, RepeatedKey):
            raise bad("row-key-twice", where, key=repr(value.key[:40]))
        layout = self.layout(tuple(value), where)
        taken = layout.take(value, where, self.answers)
        used = layout.used
        rest = {key: held for key, held in value.items() if key not in used and held not in NOTHING}
        if self.keep:
            taken.rows = [Row(row.instruction, row.input, row.output, row.where, row.earlier, rest)
                          for row in taken.rows]
        rows.add(taken)
        rows.formats[layout.format.name] += 1
        rows.unused.update(() if self.keep else rest.keys())
        rows.unused.update((*found.unread, *taken.unread))
        rows.alike.update((key, name) for name, key in layout.keys.items()
                          if key != name and name not in self.columns.given and plain_key(key) == name
                          and key.replace("_", "") != name)

    def good(self, most: int) -> Iterator[tuple[Any, Row | None]]:
        """The first values of the source, each with the row that it gives or None. Stops at what cannot be read."""
        try:
            for found in islice(self.source, most):
                rows = Rows()
                try:
                    self.take(found, rows)
                except LensError:
                    pass
                yield found.value, rows[0] if rows else None
        except LensError:
            return


def read_rows(paths: Iterable[str | Path], columns: Iterable[str] = (), skip_bad_rows: bool = False,
              encoding: str = "", answers: bool = True, keep: bool = False) -> Rows:
    """All rows of the files and datasets, checked.

    `columns`: `input=question` and the like, where the data calls its fields otherwise. `answers`: a row needs one.
    `keep`: rows keep the fields that are not used, in `Row.rest`. Raises BadRows naming file, line, what was found
    and a next step that was tried; with `skip_bad_rows` a bad row goes into `Rows.skipped` instead, and only a file
    that cannot be read on raises.
    """
    sources, layout, rows = list(map(str, paths)), parse_columns(columns), Rows()
    for path in sources:
        for _ in read_into(rows, Source(path, layout, encoding, answers), skip_bad_rows, keep):
            pass
    if not rows:
        raise nothing_in(sources, rows)
    return rows


def read_into(rows: Rows, source: Source, skip_bad_rows: bool = False, keep: bool = False) -> Iterator[None]:
    """Append a source's rows, a place at a time: between two places they may be used and cleared away, so that a source
    of any size is read in bounded memory. Raises and skips as `read_rows` does."""
    reader, had = Reader(source, source.columns, source.answers, keep), False
    try:
        for found in source:
            before = len(rows)
            try:
                reader.take(found, rows)
            except LensError as err:
                if not skip_bad_rows:
                    raise advised(err, reader, had) from None
                rows.skip(err)
            had = had or len(rows) > before
            yield
    finally:
        rows.guessed += source.notes


def advised(err: LensError, reader: Reader, had_rows: bool) -> LensError:
    """The error of a bad row with the next step that helps, tried on the first rows; as it is where none does."""
    if "next" not in err.values:
        return err
    columns = suggest_columns(err, reader)
    if columns:
        return err.with_next(Note("next-columns", columns=columns))
    if err.code == "row-keys-unknown" and reader.source.is_table_of_text:
        return err.with_next(Note("next-header"))
    if had_rows or any(row for _, row in reader.good(PROBED)):
        return err.with_next(Note("next-skip"))
    return err


def nothing_in(paths: list[str], rows: Rows) -> BadRows:
    """Why there is not a single row."""
    names = ", ".join(paths)
    if rows.skipped:
        return BadRows("no-rows-all-bad", paths=names, count=len(rows.skipped), first=rows.skipped[0])
    if rows.refusals:
        return BadRows("no-rows-refusals", paths=names, count=rows.refusals)
    return BadRows("no-rows", paths=names)
