"""The running batch: questions join it and leave it, all rows advance one token together.

Not thread-safe: whoever owns it calls `enter` and `step` in turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from compare.analysis.repetition import find_loop
from compare.engine.interface import FinishReason, Grown
from compare.engine.kv_cache import KVCache
from compare.engine.memory import ran_out
from compare.engine.open_question import OpenQuestion
from compare.engine.sampling import Chooser
from compare.event_log import log
from compare.models.architecture import Architecture, KeysValues, Slot
from compare.models.decode_graph import Next, decode, decode_step, next_of
from compare.models.lora_rows import Gate, Stack, gate_of
from compare.models.prefill_graph import StaticPrefill

StackOf = Callable[[tuple[str, ...]], Stack]


@dataclass(frozen=True, eq=False)
class Row:
    """One column of one question in the batch."""

    question: OpenQuestion
    column: int

    @property
    def token_ids(self) -> list[int]:
        """The answer's ids so far."""
        return self.question.token_ids[self.column]

    @property
    def ids(self) -> list[int]:
        """The prompt's ids and the answer's."""
        return self.question.prompts[self.column] + self.token_ids

    def accept(self, token: int, ends: Sequence[int]) -> FinishReason | None:
        """Take the next token; returns the finish reason, if it finishes the answer."""
        if token in ends:
            return "stop"
        self.token_ids.append(token)
        if self.question.sampling.stop_at_loop and find_loop(self.token_ids):
            return "loop"
        return "length" if len(self.token_ids) >= self.question.sampling.max_new_tokens else None


def gate_of_rows(rows: Sequence[Row], stack_of: StackOf) -> Gate | None:
    return gate_of([row.question.variants[row.column] for row in rows], stack_of)


class Prefill:
    """A question that is read before it joins `batch`: its prompts, and what its answers have already, chunk by chunk.

    Columns of one length are read together. `parts`: what is read, the longest first, so that in the batch's cache
    the others find their place: rows, their keys and values, and the (rows, hidden) states of their last ids.
    """

    def __init__(self, question: OpenQuestion, batch: Batch):
        self.question, self.batch = question, batch
        self.rows = sorted((Row(question, column) for column in question.growing), key=lambda row: -len(row.ids))
        self.parts: list[tuple[list[Row], KeysValues, Tensor]] = []
        self.left = sum(len(row.ids) for row in self.rows)  # tokens
        self.reading = self.read()

    def read(self) -> Iterator[None]:
        """Read everything, with a pause after each chunk."""
        batch, decoder = self.batch, self.batch.decoder
        if batch.kv_cache.make_way(len(self.rows), len(self.rows[0].ids)):
            yield
        for length, some in groupby(self.rows, key=lambda row: len(row.ids)):
            rows = list(some)
            ids = torch.tensor([row.ids for row in rows], device=decoder.device)
            gate = gate_of_rows(rows, batch.stack_of)
            if found := batch.whole and batch.whole(ids, gate):
                self.parts.append((rows, *found))
                self.left -= ids.numel()
                yield
                continue
            cache = decoder.new_cache(len(rows), length)
            for start, end in decoder.spans(len(rows), length, idle=lambda: not batch.rows):
                states = decoder.read_chunk(ids[:, :end], gate, cache, start)
                batch.kv_cache.touch(len(self.rows), start, end)
                self.left -= states.shape[0] * states.shape[1]
                yield
            self.parts.append((rows, cache, states[:, -1]))

    def advance(self) -> bool:
        """Read one chunk; True while there is more to read."""
        next(self.reading, None)
        if not self.left:
            next(self.reading, None)  # nothing is read any more, the last part is put down
        return bool(self.left)


class Batch:
    """Rows over one `Architecture`; `stack_of(names)`: the stacked adapters of these names; `ends`: the ids that end
    an answer; `static`: whether steps are of fixed shape, by default on a GPU alone."""

    def __init__(self, decoder: Architecture, stack_of: StackOf, ends: Sequence[int], static: bool | None = None):
        self.decoder, self.stack_of, self.ends = decoder, stack_of, ends
        self.decode = decode_step(decoder, static)
        self.whole = StaticPrefill(decoder) if self.decode.fixed else None
        self.clear()

    def clear(self) -> None:
        """Begin with no row and an empty cache; what the old one held is free."""
        self.rows: list[Row] = []
        self.gate: Gate | None = None
        self.ids = torch.empty((0, 1), dtype=torch.long, device=self.decoder.device)
        self.decode.clear()
        if self.whole:
            self.whole.clear()
        self.kv_cache = KVCache(self.decoder, self.decode.fixed)

    @property
    def steps(self) -> str:
        """How steps are made, and prompts are read where that is not the same, for `/health`."""
        reading = self.whole.shapes.state if self.whole else self.decode.state
        return self.decode.state if reading == self.decode.state else f"{self.decode.state}; prompts: {reading}"

    def prefill(self, question: OpenQuestion) -> Prefill:
        return Prefill(question, self)

    def enter(self, prefill: Prefill) -> None:
        """Lay what was read into the cache, and give each column of the question its first token."""
        first = len(self.rows)
        self.decoder.use_threads(sum(len(row.ids) for row in prefill.rows))
        self.rows += prefill.rows  # first of all: whatever goes wrong from here on, the question hears of it
        for rows, read, _ in prefill.parts:
            place = self.kv_cache.enter(len(rows), read.keys.shape[3])
            place.keys.copy_(read.keys)
            place.values.copy_(read.values)
        self.ids = torch.cat([self.ids, self.ids.new_zeros((len(prefill.rows), 1))])
        self.gate = gate_of_rows(self.rows, self.stack_of)
        logits = self.decoder.logits(torch.cat([last for *_, last in prefill.parts]))
        self.grow(next_of(logits, self.ends), first)

    def step(self) -> None:
        """One token for every row; rows that finish, or whose question was cancelled or fails, leave."""
        self.drop_cancelled()
        if not self.rows:
            return
        slot = self.kv_cache.step()
        failed: dict[OpenQuestion, Exception] = {}
        try:
            found = self.decode(self.ids, self.kv_cache, slot, self.gate, self.ends)
        except Exception as err:
            if ran_out(err):
                raise
            log.exception("a step failed, its rows are tried one by one")
            found, failed = self.decode_apart(slot)
        self.grow(found, 0, failed)

    def decode_apart(self, slot: Slot) -> tuple[Next, dict[OpenQuestion, Exception]]:
        """After a fault, each row by itself: (what comes next, what the rows of which questions raise again)."""
        logits = torch.zeros((len(self.rows), self.decoder.vocab_size), device=self.decoder.device)
        failed: dict[OpenQuestion, Exception] = {}
        for i, row in enumerate(self.rows):
            try:
                logits[i] = decode(self.decoder, self.ids[i:i + 1], slot.row(i), self.gate and self.gate.row(i),
                                   self.ends).logits[0]
            except Exception as err:  # noqa: BLE001 (whatever it is, it ends this question alone)
                if ran_out(err):
                    raise
                failed[row.question] = err
        return next_of(logits, self.ends), failed

    def grow(self, found: Next, first: int, failed: dict[OpenQuestion, Exception] | None = None) -> None:
        """Choose and hand out the next token of the rows from `first` on; those that it finishes leave.

        So do the rows of questions that `failed`, or fail here; each question hears of its own.
        """
        rows, failed = self.rows[first:], failed if failed is not None else {}
        chosen = self.choose(found, rows, failed)
        self.ids[first:, 0] = chosen
        grown: dict[OpenQuestion, list[Grown]] = {}
        finished = set()
        for row, token, end in zip(rows, chosen.tolist(), found.ends.tolist(), strict=True):
            if row.question in failed:
                continue
            try:
                reason = row.accept(token, self.ends)
            except Exception as err:  # noqa: BLE001 (it ends this question alone)
                failed[row.question] = err
                continue
            news = Grown(row.column, None if reason == "stop" else token, end, reason)
            grown.setdefault(row.question, []).append(news)
            if reason:
                finished.add(row)
        try:
            self.drop([i for i, row in enumerate(rows, first) if row in finished or row.question in failed])
        finally:  # what was accepted is told, or it would be missing where the question goes on later
            for question, some in grown.items():
                if question not in failed:
                    question.grow(some)
            for question, error in failed.items():
                log.error("a question failed", exc_info=error)
                question.fail(error)

    def choose(self, found: Next, rows: Sequence[Row], failed: dict[OpenQuestion, Exception]) -> Tensor:
        """(rows,) ids; the same random draws for all columns of a question."""
        if all(row.question.sampling.plain for row in rows):
            return found.best
        chosen = torch.zeros(len(rows), dtype=torch.long, device=found.best.device)
        mine: dict[OpenQuestion, list[int]] = {}
        for i, row in enumerate(rows):
            mine.setdefault(row.question, []).append(i)
        for question, places in mine.items():
            question.chooser = question.chooser or Chooser(question.sampling, question.spent)
            try:
                chosen[places] = question.chooser.choose(found.logits[places], [rows[i].ids for i in places])
            except Exception as err:  # noqa: BLE001 (it ends this question alone)
                if ran_out(err):
                    raise
                failed.setdefault(question, err)
        return chosen

    def drop(self, places: Sequence[int]) -> None:
        """Take rows out; each time the last row takes the place. The gate follows."""
        for place in sorted(places, reverse=True):
            self.kv_cache.leave(place)
            self.rows[place] = self.rows[-1]
            self.ids[place] = self.ids[len(self.rows) - 1]
            self.rows.pop()
        self.ids = self.ids[:len(self.rows)]
        if places:
            self.gate = gate_of_rows(self.rows, self.stack_of)

    def drop_cancelled(self) -> None:
        """Take out the rows of questions that were cancelled, and tell them."""
        gone = {row.question: None for row in self.rows if row.question.cancelled.is_set()}
        self.drop([i for i, row in enumerate(self.rows) if row.question in gone])
        for question in gone:
            question.cancel()

    def put_back(self) -> list[OpenQuestion]:
        """Take all rows out, though nothing is freed yet: the questions that can join again and go on, oldest first."""
        questions = [question for question in dict.fromkeys(row.question for row in self.rows) if question.growing]
        self.rows = []
        for question in questions:
            question.chooser = None
        return sorted(questions, key=lambda question: -question.spent)
