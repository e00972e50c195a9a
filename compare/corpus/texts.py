"""Files of a corpus → texts as token ids, one at a time: plain text by lines, rows by their answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from compare.analysis.token_text import Tokens
from lens.errors import Note
from lens.rows.columns import parse_columns
from lens.rows.lines import open_text, read_lines
from lens.rows.row_options import RowOptions
from lens.rows.rows import Row, Rows, read_into
from lens.rows.sources import Source

PLAIN_TEXT = (".txt", ".md", ".text")
LONGEST = 512  # tokens of plain text that are read at once; a longer line is several texts
TAG = "tag"  # the field of a row that names its slice


@dataclass(frozen=True)
class Text:
    """`ids` are looked at, after `prompt_ids`; `where` it stood, in which file, and the row's tag, "" without one."""

    where: str
    source: str
    tag: str
    prompt_ids: tuple[int, ...]
    ids: tuple[int, ...]


class Corpus:
    """The texts of files in their order. `notes()`: how they were read and what was passed over, once all were read."""

    def __init__(self, paths: Sequence[Path], tokens: Tokens, window: int, how: RowOptions | None = None):
        self.paths, self.tokens, self.window, self.how = paths, tokens, window, how or RowOptions()
        self.columns = parse_columns(self.how.columns)
        self.passed_over: Counter[str] = Counter()
        self.found = Rows()  # those of one place at a time, and what is known of all

    def __iter__(self) -> Iterator[Text]:
        self.passed_over.clear()
        self.found = Rows()
        for path in self.paths:
            if Path(path.name.lower().removesuffix(".gz")).suffix in PLAIN_TEXT:
                yield from self.lines(path)
            else:
                yield from self.rows(path)

    def notes(self) -> list[Note]:
        return self.found.notes() + [Note(code, count=count) for code, count in self.passed_over.items()]

    def lines(self, path: Path) -> Iterator[Text]:
        """Each line's tokens after its first one, which has nothing before it. Raises BadRows."""
        with open_text(path, self.how.encoding, self.found.guessed) as file:
            for found in read_lines(path, file):
                if found.problem and not self.how.skip_bad_rows:
                    raise found.problem
                if found.problem:
                    self.found.skip(found.problem)
                    continue
                ids = self.tokens.encode(found.value.strip())
                if len(ids) == 1:
                    self.passed_over["differences-one-token"] += 1
                for start in range(0, len(ids) - 1, LONGEST):
                    part = ids[start:start + LONGEST + 1]
                    yield Text(found.where, path.name, "", (part[0],), tuple(part[1:]))

    def rows(self, path: Path) -> Iterator[Text]:
        """Each row's answer and its end, after its question. Raises BadRows."""
        source = Source(str(path), self.columns, self.how.encoding, answers=False)
        for _ in read_into(self.found, source, self.how.skip_bad_rows, keep=True):
            for row in self.found:
                self.found.unused.update(key for key in row.rest if key != TAG)
                if text := self.of_row(row, path.name):
                    yield text
            self.found.clear()

    def of_row(self, row: Row, source: str) -> Text | None:
        """The row's text; None, counted, where it has none that can be read."""
        if row.earlier or not row.output.strip():
            self.passed_over["differences-conversation" if row.earlier else "differences-no-answer"] += 1
            return None
        prompt = self.tokens.prompt_ids(row.input or row.instruction, row.instruction if row.input else "")
        ids = [*self.tokens.encode(row.output), self.tokens.end_id]
        if len(prompt) >= self.window:
            self.passed_over["differences-question-long"] += 1
            return None
        if len(prompt) + len(ids) > self.window:
            self.passed_over["differences-answer-cut"] += 1
        tag = row.rest.get(TAG)
        return Text(row.where, source, tag if isinstance(tag, str) else "", tuple(prompt),
                    tuple(ids[:self.window - len(prompt)]))
