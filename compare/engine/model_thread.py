"""The one thread that touches a model: it works while there is work, and runs small calls in between.

A thread that dies is started once more; after the second death every caller is told. Where there is no such thread
(a worker forked for each call, as on ZeroGPU) whoever waits does the work.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from compare.event_log import log
from lens.errors import Unavailable

T = TypeVar("T")
LONGEST_TURN = 10.0  # seconds to wait for it at the end
PATIENCE = 0.2  # seconds between two looks at whether the thread is still there
RESTARTS = 1
ENDED = "ended"  # the state in which no thread will be started any more


class ModelThread:
    """Runs `work()`, which returns True while there is more, in a thread that is started at first need.

    `died` is called in a thread that dies, on its way out: with None where another will be started, else with what
    to tell those who wait.
    """

    def __init__(self, work: Callable[[], bool], threaded: bool = True,
                 died: Callable[[Unavailable | None], None] = lambda last: None):
        self.work, self.threaded, self.died = work, threaded, died
        self.calls: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self.wake = threading.Event()
        self.thread: threading.Thread | None = None
        self.process, self.alone, self.closed = os.getpid(), threading.RLock(), False
        self.deaths = 0

    @property
    def ended(self) -> bool:
        """Did it die so often that none is started any more?"""
        return self.deaths > RESTARTS

    @property
    def state(self) -> str:
        """`idle` (not needed yet), `running`, `restarted` after a death, `ended` after the last, `closed`; `none`:
        whoever waits does the work."""
        if self.closed or not self.threaded:
            return "closed" if self.closed else "none"
        if self.deaths:
            return ENDED if self.ended else "restarted"
        return "running" if self.thread else "idle"

    def running(self) -> bool:
        """Is there a thread in this process that does the work? Starts it at first need; a fork has none.

        Raises Unavailable where it died too often.
        """
        if not self.threaded or self.closed or self.process != os.getpid():
            return False
        with self.alone:
            if self.ended:
                raise Unavailable("model-thread-ended")
            if self.thread is None or not self.thread.is_alive():
                self.thread = threading.Thread(target=self.live, name="model", daemon=True)
                self.thread.start()
        return True

    def live(self) -> None:
        """The thread's whole life; whatever ends it is told."""
        try:
            while not self.closed:
                self.wake.wait()
                self.wake.clear()
                while not self.closed and self.turn():
                    pass
        except BaseException:  # noqa: BLE001 (SystemExit from a library would end a thread without a word)
            log.exception("the model's thread died")
            self.deaths += 1  # first of all: whoever asks from here on is told, if it was the last
            last = Unavailable("model-thread-ended") if self.ended else None
            try:
                self.died(last)
            finally:
                if last:
                    self.refuse_calls(last)

    def refuse_calls(self, error: Unavailable) -> None:
        while self.calls:
            self.calls.popleft()[1].set_exception(error)

    def close(self) -> None:
        """End the thread after its present turn, and hold what it worked on no longer."""
        self.closed = True
        self.wake.set()
        if self.thread and self.process == os.getpid() and self.thread is not threading.current_thread():
            self.thread.join(LONGEST_TURN)
        self.refuse_calls(Unavailable("engine-closed"))
        self.work, self.died = lambda: False, lambda last: None

    def turn(self) -> bool:
        """All waiting calls, then one piece of work; True while there is more of either."""
        while self.calls:
            call, future = self.calls.popleft()
            try:
                future.set_result(call())
            except BaseException as err:  # noqa: BLE001 (it belongs to the caller, whatever it is)
                future.set_exception(err)
            del call, future  # or what the call held would stay until the next
        return self.work() or bool(self.calls)

    def call(self, function: Callable[[], T]) -> T:
        """The function's result, run where the model may be touched. Raises what it raises, or Unavailable."""
        if threading.current_thread() is self.thread:
            return function()
        if not self.running():
            with self.alone:
                return function()
        future: Future[T] = Future()
        self.calls.append((function, future))
        self.wake.set()
        while not future.done():
            with suppress(TimeoutError):
                return future.result(PATIENCE)
            if self.closed:
                self.refuse_calls(Unavailable("engine-closed"))
                break
            self.running()  # a thread that died before it came to this call is replaced here
            self.wake.set()
        return future.result()

    def take(self, inbox: SimpleQueue[T]) -> T:
        """The next item of an inbox that the work fills. Raises Unavailable where nothing fills it any more."""
        while True:
            try:
                return inbox.get(timeout=PATIENCE) if self.running() else inbox.get_nowait()
            except Empty:
                if self.running():
                    self.wake.set()
                    continue
                if self.closed:
                    raise Unavailable("engine-closed") from None
                with self.alone:
                    self.turn()
