"""Files of a corpus → texts as token ids, one at a time: plain text by lines, rows by their answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from compare.analysis.token_text import Tokens
from compare.report.rows import Row as ReportRow
from compare.report.slices import slices_of
from lens.chat import valid_text
from lens.errors import BadBase, Note
from lens.rows.columns import parse_columns
from lens.rows.lines import Found, open_text, read_lines
from lens.rows.row import Turn
from lens.rows.row_options import RowOptions
from lens.rows.rows import PROBED, TAG, Row, Rows, read_into
from lens.rows.sources import Source

PLAIN_TEXT = (".txt", ".md", ".text")
LONGEST = 512  # tokens of plain text that are read at once; a longer line is several texts


@dataclass(frozen=True)
class Text:
    """`ids` are looked at, after `prompt_ids`; `where` it stood, in which file, and the row's tags."""

    where: str
    source: str
    tags: tuple[str, ...]
    prompt_ids: tuple[int, ...]
    ids: tuple[int, ...]


class Corpus:
    """The texts of files in their order, looked at by one model's `tokens` in its `window`. `notes()`: how they were
    read and what was passed over, once all were read."""

    def __init__(self, paths: Sequence[Path], how: RowOptions | None = None):
        """Raises BadSetting."""
        self.paths, self.how = paths, how or RowOptions()
        self.columns = parse_columns(self.how.columns)
        self.passed_over: Counter[str] = Counter()
        self.found = Rows()  # those of one place at a time, and what is known of all

    def check(self) -> None:
        """Raises BadRows where a file is not there, or its first line or row cannot be read as asked."""
        for path in self.paths:
            self.found = Rows()
            next(self.lines(path) if is_plain(path) else self.rows(path), None)

    def texts(self, tokens: Tokens, window: int) -> Iterator[Text]:
        """Raises BadRows."""
        self.passed_over.clear()
        self.found = Rows()
        for path in self.paths:
            if is_plain(path):
                for line in self.lines(path):
                    yield from self.of_line(line, path.name, tokens)
            else:
                for row in self.rows(path):
                    if text := self.of_row(row, path.name, tokens, window):
                        yield text

    def notes(self) -> list[Note]:
        return self.found.notes() + [Note(code, count=count) for code, count in self.passed_over.items()]

    def lines(self, path: Path) -> Iterator[Found]:
        """Those that hold text. Raises BadRows, which advises to skip bad ones where that leaves some."""
        with open_text(path, self.how.encoding, self.found.guessed) as file:
            had, lines = False, read_lines(path, file)
            for line in lines:
                if line.problem and not self.how.skip_bad_rows:
                    raise line.problem.with_next(Note("next-skip") if had or any(map(is_good, islice(lines, PROBED)))
                                                 else "")
                if line.problem:
                    self.found.skip(line.problem)
                elif line.value.strip():
                    had = True
                    yield line

    def rows(self, path: Path) -> Iterator[Row]:
        """Raises BadRows."""
        source = Source(str(path), self.columns, self.how.encoding, answers=False)
        for _ in read_into(self.found, source, self.how.skip_bad_rows, keep=True):
            for row in self.found:
                self.found.unused.update(key for key in row.rest if key != TAG)
                yield row
            self.found.clear()

    def of_line(self, line: Found, source: str, tokens: Tokens) -> Iterator[Text]:
        """Its tokens after the first one, which has nothing before it."""
        ids = tokens.encode(line.value.strip())
        if len(ids) == 1:
            self.passed_over["differences-one-token"] += 1
        for start in range(0, len(ids) - 1, LONGEST):
            part = ids[start:start + LONGEST + 1]
            yield Text(line.where, source, (), (part[0],), tuple(part[1:]))

    def of_row(self, row: Row, source: str, tokens: Tokens, window: int) -> Text | None:
        """Its last answer and its end, after all that was said before; None, counted, where none can be read."""
        turns = [turn for turn in row.turns if turn[1].strip()]  # a last question that nothing answers is left out
        if len(turns) < len(row.turns):
            self.passed_over["open-questions" if turns else "differences-no-answer"] += 1
        if not turns:
            return None
        try:
            prompt = asked(turns, row.instruction, tokens)
        except BadBase:  # its template has no second question
            self.passed_over["differences-one-question"] += 1
            return None
        if len(prompt) >= window:
            self.passed_over["differences-question-long"] += 1
            return None
        if len(turns) > 1:
            self.passed_over["differences-conversation"] += len(turns) - 1
        ids = [*tokens.encode(turns[-1][1]), tokens.end_id]
        if len(prompt) + len(ids) > window:
            self.passed_over["differences-answer-cut"] += 1
        tags = slices_of(ReportRow(0, row.input, fields=row.rest), TAG)  # as a report counts them
        return Text(row.where, source, tuple(tags), tuple(prompt), tuple(ids[:window - len(prompt)]))


def asked(turns: Sequence[Turn], instruction: str, tokens: Tokens) -> list[int]:
    """All that stands before the last turn's answer, as training lays it out. Raises BadBase where the template has no
    second question."""
    ids = tokens.prompt_ids(turns[0][0], instruction)
    later = tokens.prompt.encode_later(question for question, _ in turns[1:])
    answers = tokens.prompt.encode_texts(valid_text(answer) for _, answer in turns[:-1])
    for answer, question in zip(answers, later, strict=True):
        ids += [*answer, tokens.end_id, *question]
    return ids


def is_plain(path: Path) -> bool:
    """Does its name say that it is text without rows?"""
    return Path(path.name.lower().removesuffix(".gz")).suffix in PLAIN_TEXT


def is_good(line: Found) -> bool:
    return not line.problem and bool(line.value.strip())
