"""Encoded rows: token ids and labels, 4 bytes a token."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

IGNORED = -100  # the label value that cross-entropy skips


@dataclass(frozen=True, slots=True)
class Encoded:
    """One row: its ids (cut), the position of the first that is learnt, and its length before it was cut."""

    ids: list[int]
    learnt_from: int
    length: int

    def features(self) -> dict[str, list[int]]:
        """`input_ids` and `labels`, equally long; the labels before `learnt_from` are IGNORED."""
        return {"input_ids": self.ids, "labels": [IGNORED] * self.learnt_from + self.ids[self.learnt_from:]}


class EncodedRows(Sequence[dict[str, list[int]]]):
    """The rows a Trainer reads: item `i` is the i-th row's `input_ids` and `labels`.

    Python's own lists of integers would take some ten times the memory.
    """

    def __init__(self) -> None:
        self.ids, self.starts, self.learnt_from = array("i"), array("q", [0]), array("i")
        self.lengths = array("i")  # tokens of each row, its ending too, before any was cut

    def append(self, row: Encoded) -> None:
        self.ids.extend(row.ids)
        self.starts.append(len(self.ids))
        self.learnt_from.append(row.learnt_from)
        self.lengths.append(row.length)

    def cut_lengths(self) -> list[int]:
        """Tokens of each row as it is taught, without building the rows."""
        return [end - start for start, end in pairwise(self.starts)]

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> dict[str, list[int]]:  # type: ignore[override]
        at = range(len(self))[index]  # raises IndexError, which ends a for loop
        ids = self.ids[self.starts[at]:self.starts[at + 1]].tolist()
        return Encoded(ids, self.learnt_from[at], self.lengths[at]).features()
