"""The one thread that touches a model: it works while there is work, and runs small calls in between.

A thread that dies is started once more; after the second death every caller is told. Where there is no such thread
(a worker forked for each call, as on ZeroGPU) whoever waits does the work.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from lens.errors import Unavailable

T = TypeVar("T")
LONGEST_TURN = 10.0  # seconds to wait for it at the end
PATIENCE = 0.2  # seconds between two looks at whether the thread is still there
RESTARTS = 1
ENDED = "ended"  # the state in which no thread will be started any more
GONE = "the model's thread ended twice, so nothing can be answered; start the program anew, its log says why"
log = logging.getLogger("lens")


class Owner:
    """Runs `work()`, which returns True while there is more, in a thread that is started at first need.

    `fallen` is called in a thread that dies, on its way out: with None where another will be started, else with what
    to tell those who wait.
    """

    def __init__(self, work: Callable[[], bool], threaded: bool = True,
                 fallen: Callable[[Unavailable | None], None] = lambda last: None):
        self.work, self.threaded, self.fallen = work, threaded, fallen
        self.calls: deque[tuple[Callable[[], Any], Future]] = deque()
        self.wake = threading.Event()
        self.thread: threading.Thread | None = None
        self.process, self.alone, self.closing = os.getpid(), threading.RLock(), False
        self.deaths = 0
        atexit.register(self.close)

    @property
    def state(self) -> str:
        """`idle` (not needed yet), `running`, `restarted` after a death, `ended` after the last, or `none`."""
        if not self.threaded:
            return "none"
        if self.deaths:
            return "restarted" if self.deaths <= RESTARTS else ENDED
        return "running" if self.thread else "idle"

    def running(self) -> bool:
        """Is there a thread in this process that does the work? Starts it at first need; a fork has none.

        Raises Unavailable where it died too often.
        """
        if not self.threaded or self.closing or self.process != os.getpid():
            return False
        with self.alone:
            if self.deaths > RESTARTS:
                raise Unavailable(GONE)
            if self.thread is None or not self.thread.is_alive():
                self.thread = threading.Thread(target=self.live, name="model", daemon=True)
                self.thread.start()
        return True

    def live(self) -> None:
        """The thread's whole life; whatever ends it is told."""
        try:
            self.loop()
        except BaseException:  # noqa: BLE001 (SystemExit from a library would end a thread without a word)
            log.exception("the model's thread died")
            self.deaths += 1  # first of all: whoever asks from here on is told, if it was the last
            last = Unavailable(GONE) if self.deaths > RESTARTS else None
            try:
                self.fallen(last)
            finally:
                while last and self.calls:
                    self.calls.popleft()[1].set_exception(last)

    def loop(self) -> None:
        while not self.closing:
            self.wake.wait()
            self.wake.clear()
            while not self.closing and self.turn():
                pass

    def close(self) -> None:
        """End the thread after its present turn: one that is inside the model when Python ends aborts the process."""
        self.closing = True
        self.wake.set()
        if self.thread and self.process == os.getpid() and self.thread is not threading.current_thread():
            self.thread.join(LONGEST_TURN)

    def turn(self) -> bool:
        """All waiting calls, then one piece of work; True while there is more of either."""
        while self.calls:
            call, future = self.calls.popleft()
            try:
                future.set_result(call())
            except BaseException as err:  # noqa: BLE001 (it belongs to the caller, whatever it is)
                future.set_exception(err)
        return self.work() or bool(self.calls)

    def call(self, function: Callable[[], T]) -> T:
        """The function's result, run where the model may be touched. Raises what it raises, or Unavailable."""
        if threading.current_thread() is self.thread:
            return function()
        if not self.running():
            with self.alone:
                return function()
        future: Future = Future()
        self.calls.append((function, future))
        self.wake.set()
        while not future.done():
            with suppress(TimeoutError):
                return future.result(PATIENCE)
            self.running()  # a thread that died before it came to this call is replaced here
            self.wake.set()
        return future.result()

    def take(self, inbox: SimpleQueue) -> Any:
        """The next item of an inbox that the work fills. Raises Unavailable where nothing fills it any more."""
        while True:
            try:
                return inbox.get(timeout=PATIENCE) if self.running() else inbox.get_nowait()
            except Empty:
                if self.running():
                    self.wake.set()
                    continue
                with self.alone:
                    self.turn()
