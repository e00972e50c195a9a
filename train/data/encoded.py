"""Encoded rows: token ids and labels, 4 bytes a token."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

IGNORED = -100  # the label value that cross-entropy skips


@dataclass(slots=True)
class Encoded:
    """One row: its ids and which of them are learnt, cut to at most `limit`; its length before it was cut, and that of
    its first prompt; how many answers were cut in their middle or before their ending (0 or 1)."""

    limit: int
    ids: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    length: int = 0
    prompt: int = 0
    endings_lost: int = 0
    full: bool = False  # has something been cut off already?

    def add(self, ids: Sequence[int], learnt: bool, ending: bool = False) -> None:
        """Append as much as there is room for; an ending whole or not at all."""
        self.length += len(ids)
        room = 0 if self.full else self.limit - len(self.ids)
        if len(ids) > room:
            self.endings_lost += learnt and not self.full
            self.full = True
            ids = [] if ending else ids[:room]
        self.ids += ids
        self.labels += ids if learnt else [IGNORED] * len(ids)

    def ask(self, ids: Sequence[int], learnt: bool) -> None:
        """Append a question's turns. One that does not fit whole is left out, for nothing after it would be learnt."""
        self.prompt = self.prompt or len(ids)
        if not learnt and len(self.ids) + len(ids) >= self.limit:
            self.length, self.full = self.length + len(ids), True
        else:
            self.add(ids, learnt)


class EncodedRows(Sequence[dict[str, list[int]]]):
    """The rows a Trainer reads: item `i` is the i-th row's `input_ids` and `labels`.

    Python's own lists of integers would take some ten times the memory. An id that is not learnt is kept as its
    complement, a negative number.
    """

    def __init__(self, rows: Iterable[Encoded] = ()) -> None:
        self.ids, self.starts = array("i"), array("q", [0])
        self.lengths = array("i")  # tokens of each row, its endings too, before any was cut
        self.endings_lost = 0  # answers whose ending was cut off
        self.learnt = 0  # tokens with a label
        self.dropped = 0  # rows left out because they would have been cut
        for row in rows:
            self.append(row)

    def append(self, row: Encoded) -> None:
        self.ids.extend(i if label != IGNORED else ~i for i, label in zip(row.ids, row.labels, strict=True))
        self.starts.append(len(self.ids))
        self.lengths.append(row.length)
        self.endings_lost += row.endings_lost
        self.learnt += len(row.labels) - row.labels.count(IGNORED)

    def cut_lengths(self) -> list[int]:
        """Tokens of each row as it is taught, without building the rows."""
        return [end - start for start, end in pairwise(self.starts)]

    def cut(self, max_length: int) -> int:
        """How many rows were longer than this."""
        return sum(length > max_length for length in self.lengths)

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> dict[str, list[int]]:  # type: ignore[override]
        at = range(len(self))[index]  # raises IndexError, which ends a for loop
        kept = self.ids[self.starts[at]:self.starts[at + 1]].tolist()
        return {"input_ids": [i if i >= 0 else ~i for i in kept], "labels": [i if i >= 0 else IGNORED for i in kept]}
