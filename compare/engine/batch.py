"""The running batch: questions join it and leave it, all rows advance one token together.

Not thread-safe: whoever owns it calls `join` and `step` in turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from compare.analysis.repetition import find_loop
from compare.engine.ask import Ask
from compare.engine.interface import Grown
from compare.engine.kv_cache import Axis
from compare.engine.lora_rows import Gate, Stack, gate_of
from compare.models.bloom import Bloom


@dataclass
class Row:
    """One column of one question in the batch."""

    ask: Ask
    column: int

    @property
    def token_ids(self) -> list[int]:
        """The answer's ids so far."""
        return self.ask.token_ids[self.column]

    @property
    def ids(self) -> list[int]:
        """The prompt's ids and the answer's."""
        return self.ask.prompts[self.column] + self.token_ids

    def accept(self, token: int, eos: int) -> str | None:
        """Take the next token; returns the finish reason, if it finishes the answer."""
        if reason := self.ending(token, eos):
            self.ask.growing.discard(self.column)
        return reason

    def ending(self, token: int, eos: int) -> str | None:
        if token == eos:
            return "stop"
        self.token_ids.append(token)
        if self.ask.sampling.stop_at_loop and find_loop(self.token_ids):
            return "loop"
        return "length" if len(self.token_ids) >= self.ask.sampling.max_new_tokens else None


class Batch:
    """Rows over one `Bloom`; `stack_of(names)` gives the stacked adapters of these names."""

    def __init__(self, bloom: Bloom, stack_of: Callable[[tuple[str, ...]], Stack], eos: int):
        self.bloom, self.stack_of, self.eos = bloom, stack_of, eos
        self.axis = Axis(bloom)
        self.rows: list[Row] = []
        self.ids = torch.empty((0, 1), dtype=torch.long, device=bloom.device)
        self.gate: Gate | None = None

    def gate_of(self, rows: Sequence[Row]) -> Gate | None:
        return gate_of([row.ask.variants[row.column] for row in rows], self.stack_of)

    def join(self, ask: Ask) -> None:
        """Prefill a question apart, with what its answers have already, lay it in, and give each column a token.

        Columns of one length are one prefill; the longest first, so that the others find their room on the axis.
        """
        if ask.cancelled.is_set():
            return self.tell((ask, Grown(column, None, None, "cancelled")) for column in sorted(ask.growing))
        first, new = len(self.rows), [Row(ask, column) for column in sorted(ask.growing)]
        new.sort(key=lambda row: -len(row.ids))
        self.rows += new  # first of all: whatever goes wrong from here on, the question hears of it
        last = [self.prefill(list(rows)) for _, rows in groupby(new, key=lambda row: len(row.ids))]
        self.gate = self.gate_of(self.rows)
        self.grow(self.bloom.logits(torch.cat(last)), first)

    def prefill(self, rows: Sequence[Row]) -> Tensor:
        """Lay rows of one length in, behind those that are there: (rows, hidden) states of their last ids."""
        ids = torch.tensor([row.ids for row in rows], device=self.bloom.device)
        states = self.bloom.read(ids, self.gate_of(rows), self.axis.enter(*ids.shape))
        self.ids = torch.cat([self.ids, ids[:, -1:]])
        return states[:, -1]

    def step(self) -> None:
        """One token for every row; rows that finish, or whose question was cancelled, leave."""
        self.drop_cancelled()
        if not self.rows:
            return
        slot = self.axis.step()
        states = self.bloom.states(self.ids, slot.cache, slot.at, slot.bias, self.gate)
        self.grow(self.bloom.logits(states[:, -1]), 0)

    def grow(self, logits: Tensor, first: int) -> None:
        """Choose and hand out the next token of the rows from `first` on; those that it finishes leave."""
        rows = self.rows[first:]
        chosen = self.choose(logits, rows)
        ends = (logits[:, self.eos] - logits.logsumexp(-1)).exp()
        self.ids[first:, 0] = chosen
        news, finished = [], []
        for i, (row, token, end) in enumerate(zip(rows, chosen.tolist(), ends.tolist(), strict=True), first):
            reason = row.accept(token, self.eos)
            news.append((row.ask, Grown(row.column, None if reason == "stop" else token, end, reason)))
            if reason:
                finished.append(i)
        try:
            self.drop(finished)
        finally:  # what was accepted is told, or it would be missing where the question goes on later
            self.tell(news)

    def tell(self, news: Iterable[tuple[Ask, Grown]]) -> None:
        """Every question hears of its columns at once."""
        grown: dict[Ask, list[Grown]] = {}
        for ask, one in news:
            grown.setdefault(ask, []).append(one)
        for ask, some in grown.items():
            ask.inbox.put((ask, some))

    def choose(self, logits: Tensor, rows: Sequence[Row]) -> Tensor:
        """(rows, vocabulary) float32 logits → (rows,) ids; one luck for all columns of a question."""
        if all(row.ask.sampling.plain for row in rows):
            return logits.argmax(-1)
        chosen = logits.new_empty(len(rows), dtype=torch.long)
        mine: dict[Ask, list[int]] = {}
        for i, row in enumerate(rows):
            mine.setdefault(row.ask, []).append(i)
        for ask, places in mine.items():
            chosen[places] = ask.chooser.choose(logits[places], [rows[i].ids for i in places])
        return chosen

    def drop(self, places: Sequence[int]) -> None:
        """Take rows out; each time the last row takes the place. The gate follows."""
        for place in sorted(places, reverse=True):
            self.axis.leave(place)
            self.rows[place] = self.rows[-1]
            self.ids[place] = self.ids[len(self.rows) - 1]
            self.rows.pop()
        self.ids = self.ids[:len(self.rows)]
        if places:
            self.gate = self.gate_of(self.rows)

    def drop_cancelled(self) -> None:
        """Take out the rows of questions that were cancelled, and tell them."""
        places = [i for i, row in enumerate(self.rows) if row.ask.cancelled.is_set()]
        news = [(self.rows[i].ask, Grown(self.rows[i].column, None, None, "cancelled")) for i in places]
        self.drop(places)
        self.tell(news)

    def abandon(self, error: Exception) -> None:
        """Tell every question what ended it, and start from an empty axis."""
        for ask in self.put_back():
            ask.inbox.put((ask, error))
        self.clear()

    def put_back(self) -> list[Ask]:
        """Take all rows out, though nothing is freed yet: the questions that can join again and go on, oldest first."""
        asks = [ask for ask in dict.fromkeys(row.ask for row in self.rows) if ask.growing]
        self.rows = []
        for ask in asks:
            ask.rewind()
        return sorted(asks, key=lambda ask: -len(ask.token_ids[min(ask.growing)]))

    def clear(self) -> None:
        """Begin with an empty axis; what the old one held is free."""
        self.axis = self.gate = None  # type: ignore[assignment]  # the axis for this moment alone
        self.ids = self.ids.new_empty((0, 1))
        self.axis = Axis(self.bloom)
