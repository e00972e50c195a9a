"""Many visitors of one page at once, half of whom cancel or vanish, in a process of their own.

A visitor's connections end with the process, as they do when somebody leaves: of two questions cancelled shortly after
one another gradio_client (2.7) may wait for the second without end, its stream stays open, and what the page holds for
it would be taken for left behind.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import TypeVar

from bench.trust.found import Progress
from bench.trust.wire import events
from compare.questions import Question

TOKENS = 48
PATIENCE = 60.0  # seconds that a visitor waits for the page itself

Ids = list[list[int]]  # of each column
Result = TypeVar("Result")


def arguments(question: Question) -> list:
    """Those of `/compare`, in order."""
    return [question.text, question.instruction, [1.0], TOKENS, 0.0, 1.0, 0, None]


@dataclass
class Tally:
    """What all visitors saw, kept under one lock."""

    ends: Counter = field(default_factory=Counter)
    first: list[float] = field(default_factory=list)  # seconds to the first token
    wrong: list[tuple[Question, Ids]] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __getstate__(self) -> dict:
        return {name: value for name, value in vars(self).items() if name != "lock"}

    def __setstate__(self, state: dict) -> None:
        """In another process, with a lock of its own."""
        vars(self).update(state, lock=threading.Lock())

    def add(self, end: str, first: float | None = None) -> None:
        with self.lock:
            self.ends[end] += 1
            if first is not None:
                self.first.append(first)

    def compare(self, question: Question, found: Ids, right: Ids, first: float | None) -> None:
        self.add("finished", first)
        if found != right:
            with self.lock:
                self.wrong.append((question, found))

    def fail(self, err: object) -> None:
        with self.lock:
            self.failed.append(f"{type(err).__name__}: {str(err)[:160]}")


def together(work: Callable[[int], None], count: int) -> None:
    threads = [threading.Thread(target=work, args=(i,)) for i in range(count)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()


@dataclass
class Crowd:
    """Visitors of the page on `port`, for so many seconds; `number`: that of the function that `/compare` is;
    `alone`: what each question gets by itself."""

    port: int
    number: int
    alone: dict[Question, Ids]
    seconds: float
    tally: Tally = field(default_factory=Tally)
    ends: float = 0.0  # on the monotonic clock

    def come(self, clients: int, name: str) -> Tally:
        """All of them, until the time is up. Progress is told under `name`."""
        self.ends = time.monotonic() + self.seconds
        threading.Thread(target=self.follow, args=(name,), daemon=True).start()
        together(self.visit, clients)
        return self.tally

    def follow(self, name: str) -> None:
        progress = Progress(name, self.seconds, "s")
        while (left := self.ends - time.monotonic()) > 0:
            progress.at(self.seconds - left, str(dict(self.tally.ends)))
            time.sleep(1)
        progress.at(self.seconds)

    def visit(self, i: int) -> None:
        r = random.Random(i)
        try:
            client = new_client(self.port)
        except Exception as err:  # noqa: BLE001 (told as a fault)
            self.tally.fail(err)
            return
        questions = list(self.alone)
        while time.monotonic() < self.ends:
            question = r.choice(questions)
            way = r.choice((self.finish, self.finish, self.cancel, self.vanish))
            try:
                way(client, question, r)
            except Exception as err:  # noqa: BLE001 (told as a fault, unless it says that the line is full)
                if "full" in str(err):
                    self.tally.add("told that the line is full")
                else:
                    self.tally.fail(err)
                time.sleep(1)

    def finish(self, client, question: Question, r: random.Random) -> None:
        began, first = time.monotonic(), None
        job = client.submit(*arguments(question), api_name="/compare")
        while not job.done():
            if first is None and job.outputs():
                first = time.monotonic() - began
            time.sleep(0.03)
        job.result()
        self.tally.compare(question, ids(job.outputs()[-1]), self.alone[question], first)

    def cancel(self, client, question: Question, r: random.Random) -> None:
        job = client.submit(*arguments(question), api_name="/compare")
        time.sleep(r.random() * 3)
        job.cancel()
        self.tally.add("cancelled")

    def vanish(self, client, question: Question, r: random.Random) -> None:
        """The connection is closed in the middle of the answer, with no word."""
        began, first, left = time.monotonic(), None, r.randint(1, 12)
        for event in events(self.port, arguments(question), fn_index=self.number):
            if event["msg"] == "refused":
                raise RuntimeError(event["said"] if event["status"] != 503 else "the queue is full")
            if event["msg"] == "process_generating":
                first = first or time.monotonic() - began
                left -= 1
            if left <= 0 or event["msg"] == "process_completed":
                break
        self.tally.add("vanished", first)


def ids(answer: dict) -> Ids:
    return [column["token_ids"] for column in answer["columns"]]


def new_client(port: int):
    from gradio_client import Client

    return Client(f"http://127.0.0.1:{port}/", verbose=False, httpx_kwargs={"timeout": PATIENCE})


def each_alone(port: int, questions: Sequence[Question]) -> dict[Question, Ids]:
    """What every question gets when nobody else asks."""
    client, alone = new_client(port), {}
    for question in questions:
        job = client.submit(*arguments(question), api_name="/compare")
        job.result()
        alone[question] = ids(job.outputs()[-1])
    return alone


def apart(work: Callable[..., Result], *args: object) -> Result:
    """What `work` returns in a process of its own, which is killed then. Raises what it raises."""
    context = get_context("spawn")
    heard, said = context.Pipe(duplex=False)
    process = context.Process(target=tell, args=(said, work, args))
    process.start()
    said.close()
    try:
        found = heard.recv()
    finally:
        process.kill()
        process.join()
    if isinstance(found, Exception):
        raise found
    return found


def tell(said: Connection, work: Callable[..., Result], args: tuple) -> None:
    try:
        said.send(work(*args))
    except Exception as err:  # noqa: BLE001 (raised by who waits for it)
        said.send(err)
