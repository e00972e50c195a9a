"""The line of questions before the batch, and what happens when memory runs out or the model's thread dies.

Then all rows leave the batch, their questions go back into line with what their answers have already, and join again,
fewer at once. Called by whoever owns the model, never by two at a time; only `waiting` is filled by others.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TypeVar

import torch

from compare.engine import out_of_memory as shortage
from compare.engine.ask import Ask
from compare.engine.batch import Batch
from compare.engine.capacity import Room
from compare.engine.event_log import log
from lens.errors import Unavailable

T = TypeVar("T")
TOO_LARGE = ("there is not enough memory for this question, even by itself; ask for fewer columns or fewer tokens, or "
             "give the model more memory")


class Line:
    """`waiting` questions, the `batch` they join, and the `room` in it."""

    def __init__(self, batch: Batch, most: int):
        self.batch, self.room = batch, Room(most)
        self.waiting: deque[Ask] = deque()

    def work(self) -> bool:
        """Let one waiting question in, if there is room, then one step; True while there is more to do."""
        with torch.inference_mode():
            try:
                if self.waiting and self.room.admits(len(self.batch.rows), len(self.waiting[0].growing)):
                    self.batch.join(self.waiting.popleft())
                self.batch.step()
                self.room.widen()
            except Exception as err:  # noqa: BLE001 (every question in the batch must hear of it)
                if shortage.ran_out(err):
                    self.make_room(err)
                else:
                    self.batch.abandon(err)
        return bool(self.batch.rows or self.waiting)

    def make_room(self, error: Exception) -> None:
        """Memory ran out: all go back into line. A question that ran out twice by itself is told."""
        shortage.let_go(error)
        self.room.shrink(len(self.batch.rows))
        log.warning("out of memory with %d columns, room for %d now", len(self.batch.rows), self.room.limit)
        asks = self.batch.put_back()
        if len(asks) == 1:
            asks[0].squeezed += 1
        for ask in reversed(asks):
            if ask.squeezed > 1:
                ask.inbox.put((ask, Unavailable(TOO_LARGE)))
            else:
                self.waiting.appendleft(ask)
        self.batch.clear()
        shortage.give_back()

    def run(self, function: Callable[[], T]) -> T:
        """A computation between two steps; where memory runs out, the batch makes room and it is tried once more.

        Raises what it raises, or Unavailable where it does not fit by itself either.
        """
        with torch.inference_mode():
            try:
                return function()
            except Exception as err:
                if not shortage.ran_out(err):
                    raise
                self.make_room(err)
            try:
                return function()
            except Exception as err:
                if not shortage.ran_out(err):
                    raise
                shortage.let_go(err)
        shortage.give_back()
        raise Unavailable(TOO_LARGE)

    def fallen(self, last: Unavailable | None) -> None:
        """The model's thread is dying: the questions go back into line for the next one, or hear `last` of it."""
        self.waiting.extendleft(reversed(self.batch.put_back()))
        while last and self.waiting:
            ask = self.waiting.popleft()
            ask.inbox.put((ask, last))
        self.batch.clear()
