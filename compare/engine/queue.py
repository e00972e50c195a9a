"""The line of questions before the batch, and what happens when memory runs out or the model's thread dies.

Then rows leave the batch, their questions go back into line with what their answers have already, and join again,
fewer at once. Called by whoever owns the model, never by two at a time; only `waiting` is filled by others.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Set
from typing import TypeVar

import torch

from compare.engine.batch import Batch, Prefill
from compare.engine.memory import Capacity, give_back, let_go, ran_out, too_little
from compare.engine.open_question import OpenQuestion
from compare.event_log import log
from compare.models.loaded_model import LoadedModel
from lens.errors import LensError, Unavailable

T = TypeVar("T")
READING = 0.03  # seconds that the others wait while questions are read, where a chunk or a joining takes no longer
LONG = 1024  # tokens that are laid into the batch in a turn of their own


class QuestionQueue:
    """Questions `waiting`, those `joining` (read chunk by chunk, in turn), and the `batch` they join.

    `bring(names, in_use)` sees to it that adapters are on the model; `static`: as `Batch` takes it.
    """

    def __init__(self, loaded: LoadedModel, most: int, bring: Callable[[Set[str], Set[str]], None],
                 static: bool | None = None):
        self.batch = Batch(loaded.decoder, loaded.stack_of, loaded.ends, static)
        self.capacity, self.bring = Capacity(most), bring
        self.waiting: deque[OpenQuestion] = deque()
        self.joining: deque[Prefill] = deque()

    @property
    def columns(self) -> int:
        """That advance together, or are about to."""
        return len(self.batch.rows) + sum(len(prefill.rows) for prefill in self.joining)

    @property
    def busy(self) -> bool:
        """Is there a question that is not finished?"""
        return bool(self.batch.rows or self.joining or self.waiting)

    def in_use(self) -> set[str]:
        """The adapters of all questions that are not finished."""
        under_way = [*self.waiting.copy(), *(prefill.question for prefill in self.joining),
                     *(row.question for row in self.batch.rows)]
        return {name for question in under_way for name in question.adapters}

    def work(self) -> bool:
        """Let waiting questions in, as far as there is room, and read them for a while, chunk by chunk; then one step
        of the batch. True while there is more to do."""
        with torch.inference_mode():
            until, read = time.monotonic() + READING, False
            while True:
                self.admit()
                if not self.joining or read and self.takes_long(self.joining[0]):
                    break
                began, read = time.monotonic(), True
                self.read()
                if 2 * time.monotonic() - began >= until:  # another as long would keep the others waiting
                    break
            self.step()
        return self.busy

    def takes_long(self, prefill: Prefill) -> bool:
        """Is it read, and would laying it in keep running answers waiting as long as a chunk does?"""
        return bool(self.batch.rows) and not prefill.left and sum(len(row.ids) for row in prefill.rows) > LONG

    def admit(self) -> None:
        if not self.waiting or not self.capacity.admits(self.columns, len(self.waiting[0].growing)):
            return
        question = self.waiting.popleft()
        if question.cancelled.is_set():
            return question.cancel()
        try:
            self.bring(question.adapters, self.in_use())
            self.joining.append(self.batch.prefill(question))
        except Exception as err:  # noqa: BLE001 (whatever it is, it ends this question alone)
            self.fault(question, err)

    def read(self) -> None:
        """One chunk of the question that waited longest for its turn; one of which all is read joins the batch."""
        prefill = self.joining.popleft()
        if prefill.question.cancelled.is_set():
            return prefill.question.cancel()
        try:
            if prefill.left:
                return self.joining.append(prefill) if prefill.advance() else self.joining.appendleft(prefill)
        except Exception as err:  # noqa: BLE001 (it ends this question alone)
            del prefill.reading, prefill.parts
            return self.fault(prefill.question, err)
        try:
            self.batch.enter(prefill)
        except Exception as err:  # noqa: BLE001 (half laid in: all others are laid in anew)
            if not ran_out(err):
                log.exception("a question failed as it joined")
                prefill.question.fail(err)
            self.make_room(err)

    def step(self) -> None:
        try:
            self.batch.step()
            self.capacity.widen()
        except Exception as err:  # noqa: BLE001 (what is no one question's fault is told to all)
            if ran_out(err):
                return self.make_room(err)
            log.exception("a step failed")
            for question in self.batch.put_back():
                question.fail(err)
            self.batch.clear()

    def fault(self, question: OpenQuestion, error: Exception) -> None:
        """What was raised while a question was prepared or read, and the batch is untouched: it alone hears of it, or,
        where memory ran out, goes back into line until there is room."""
        if not ran_out(error):
            if not isinstance(error, LensError):
                log.error("a question failed", exc_info=error)
            return question.fail(error)
        let_go(error)
        columns = self.columns
        self.capacity.shrink(columns + len(question.growing))
        log.warning("out of memory as a question of %d columns joined %d", len(question.growing), columns)
        self.wait_again(question, alone=not columns)
        give_back()

    def wait_again(self, question: OpenQuestion, alone: bool) -> None:
        """Back to the head of the line, unless memory ran out twice with nobody else there."""
        question.memory_failures += alone
        if question.memory_failures > 1:
            question.fail(too_little(self.batch.decoder.device))
        else:
            self.waiting.appendleft(question)

    def make_room(self, error: Exception, blame: bool = True) -> None:
        """All leave the batch and go back into line; `blame`: whoever was in it alone has used up the memory."""
        let_go(error)
        if ran_out(error):
            self.capacity.shrink(self.columns)
            log.warning("out of memory with %d columns, room for %d now", self.columns, self.capacity.limit)
        joining, questions = [prefill.question for prefill in self.joining], self.batch.put_back()
        self.joining.clear()
        together = [*questions, *joining]
        for question in reversed(together):
            self.wait_again(question, alone=blame and ran_out(error) and len(together) == 1)
        self.batch.clear()
        give_back()

    def run(self, function: Callable[[], T]) -> T:
        """A computation between two steps; where memory runs out, the batch makes room and it is tried once more.

        Raises what it raises, or Unavailable where it does not fit by itself either.
        """
        with torch.inference_mode():
            for again in (True, False):
                try:
                    return function()
                except Exception as err:
                    if not ran_out(err):
                        raise
                    if again:
                        self.make_room(err, blame=False)
                    else:
                        let_go(err)
        give_back()
        raise too_little(self.batch.decoder.device)

    def thread_died(self, last: Unavailable | None) -> None:
        """The model's thread is dying: the questions go back into line for the next one, or hear `last` of it."""
        self.waiting.extendleft(reversed([*self.batch.put_back(), *(prefill.question for prefill in self.joining)]))
        self.joining.clear()
        while last and self.waiting:
            self.waiting.popleft().fail(last)
        self.batch.clear()

    def close(self, error: Unavailable) -> None:
        """Tell all who wait, and hold the model no longer."""
        self.thread_died(error)
        del self.batch, self.bring
