"""Files of a corpus → texts as token ids, one at a time: plain text by lines, rows by their answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from compare.analysis.token_text import Tokens
from lens.errors import Note
from lens.rows.columns import Columns
from lens.rows.lines import open_text, read_lines
from lens.rows.rows import Reader, Rows
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
    """The texts of files in their order. `notes()`: what was passed over, once all were read."""

    def __init__(self, paths: Sequence[Path], tokens: Tokens, window: int):
        self.paths, self.tokens, self.window = paths, tokens, window
        self.passed_over: Counter[str] = Counter()

    def __iter__(self) -> Iterator[Text]:
        self.passed_over.clear()
        for path in self.paths:
            if Path(path.name.lower().removesuffix(".gz")).suffix in PLAIN_TEXT:
                yield from self.lines(path)
            else:
                yield from self.rows(path)

    def notes(self) -> list[Note]:
        return [Note(code, count=count) for code, count in self.passed_over.items()]

    def lines(self, path: Path) -> Iterator[Text]:
        """Each line's tokens after its first one, which has nothing before it. Raises BadRows."""
        with open_text(path) as file:
            for found in read_lines(path, file):
                if found.problem:
                    raise found.problem
                ids = self.tokens.encode(found.value.strip())
                if len(ids) == 1:
                    self.passed_over["differences-one-token"] += 1
                for start in range(0, len(ids) - 1, LONGEST):
                    part = ids[start:start + LONGEST + 1]
                    yield Text(found.where, path.name, "", (part[0],), tuple(part[1:]))

    def rows(self, path: Path) -> Iterator[Text]:
        """Each row's answer and its end, after its question. Raises BadRows."""
        reader = Reader(source := Source(str(path), answers=False), Columns(), answers=False, keep=True)
        for found in source:
            rows = Rows()
            reader.take(found, rows)
            for row in rows:
                if row.earlier or not row.output.strip():
                    self.passed_over["differences-conversation" if row.earlier else "differences-no-answer"] += 1
                    continue
                prompt = self.tokens.prompt_ids(row.input or row.instruction, row.instruction if row.input else "")
                ids = [*self.tokens.encode(row.output), self.tokens.end_id]
                if len(prompt) >= self.window:
                    self.passed_over["differences-question-long"] += 1
                    continue
                if len(prompt) + len(ids) > self.window:
                    self.passed_over["differences-answer-cut"] += 1
                tag = row.rest.get(TAG)
                yield Text(row.where, path.name, tag if isinstance(tag, str) else "", tuple(prompt),
                           tuple(ids[:self.window - len(prompt)]))
