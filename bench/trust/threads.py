"""The load at the engine, without a server: threads that ask, half of which leave in the middle of their answer."""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Iterator, Sequence

import psutil

from bench.trust.crowd import Tally, together
from bench.trust.server import Held
from compare.engine.interface import Sampling
from compare.questions import Question

TOKENS = 12


def crowd(engine, questions: Sequence[Question], clients: int, seconds: float) -> tuple[Tally, Held, Held]:
    """Threads that ask the engine until the time is up, half of which leave early; what was held before and after."""
    sampling = Sampling(TOKENS)
    alone = {questions[i]: [c.token_ids for c in columns] for i, columns in ask_alone(engine, questions, sampling)}
    tally, ends = Tally(), 0.0

    def visit(i: int) -> None:
        r = random.Random(i)
        while time.monotonic() < ends:
            question, began = r.choice(questions), time.monotonic()
            stream = engine.compare(question.text, question.instruction, sampling=sampling)
            columns = next(stream)
            first = time.monotonic() - began
            if r.random() < 0.5:
                stream.close()
                tally.add("vanished", first)
                continue
            *_, columns = stream
            tally.compare(question, [c.token_ids for c in columns], alone[question], first)

    ends = time.monotonic() + min(1.0, seconds / 4)
    together(visit, clients)
    before, ends = holds(), time.monotonic() + seconds
    together(visit, clients)
    list(engine.answer_all(questions[:1], sampling=Sampling(1)))
    return tally, before, holds()


def ask_alone(engine, questions: Sequence[Question], sampling: Sampling) -> Iterator[tuple[int, list]]:
    for i, question in enumerate(questions):
        for _, columns in engine.answer_all([question], sampling=sampling):
            yield i, columns


def holds() -> Held:
    gc.collect()
    process = psutil.Process()
    return Held(process.memory_info().rss, process.num_threads(), process.num_fds())
