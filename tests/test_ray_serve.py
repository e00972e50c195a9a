"""deploy/ray_serve.py without Ray: its replica and its page's engine, joined by a stand-in for Serve's handle.

Ray itself is run by `python -m bench.cluster`; shown here is ours: equal answers, a replica that dies, Stop, errors.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType, SimpleNamespace

import pytest
from conftest import ADAPTER, BASE, MOTTO

from compare.analysis.adapter_norms import anatomy
from compare.engine.interface import Sampling, Variant
from compare.engine.remote import TRIES, RemoteEngine
from deploy.ray_serve import Replica
from lens.errors import BadQuestion


def apart(coroutine):
    """Its result, run in a thread of its own: the browser tests leave a loop running in this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()


class Died(Exception):
    """Stands for ray.exceptions.RayActorError."""


class Stream:
    """Reads a replica's async generator in a loop of its own; dies after `lives` items."""

    def __init__(self, made, lives: int | None):
        self.loop, self.made, self.lives, self.cancelled = asyncio.new_event_loop(), made, lives, False

    def __iter__(self):
        try:
            while self.lives is None or self.lives > 0:
                yield self.loop.run_until_complete(anext(self.made))
                self.lives = None if self.lives is None else self.lives - 1
            raise Died("the actor died")
        except StopAsyncIteration:
            return
        finally:
            self.loop.run_until_complete(self.made.aclose())
            self.loop.close()

    def cancel(self):
        self.cancelled = True


class Handle:
    """Serve's handle as far as it is used. `lives`: items until each call's replica dies (None: it lives)."""

    def __init__(self, replica: Replica):
        self.replica, self.lives, self.streams = replica, [], []
        self.facts, self.states, self.logits = map(self.unary, ("facts", "states", "logits"))
        self.anatomy = self.unary("anatomy")
        self.answer = SimpleNamespace(remote=self.stream)

    def options(self, stream: bool):
        assert stream
        return self

    def unary(self, name: str):
        call = getattr(self.replica, name)
        return SimpleNamespace(remote=lambda *args: SimpleNamespace(result=lambda: apart(call(*args))))

    def stream(self, *args):
        self.streams.append(Stream(self.replica.answer(*args), self.lives.pop(0) if self.lives else None))
        return self.streams[-1]


@pytest.fixture(scope="module")
def replica(engine):
    made = Replica.__new__(Replica)
    made.engine, made.threads = engine, ThreadPoolExecutor(8)
    return made


@pytest.fixture
def remote(replica, monkeypatch):
    exceptions = ModuleType("ray.exceptions")
    exceptions.RayActorError = Died
    monkeypatch.setitem(sys.modules, "ray", ModuleType("ray"))
    monkeypatch.setitem(sys.modules, "ray.exceptions", exceptions)
    return RemoteEngine(Handle(replica), str(BASE), [str(ADAPTER)])


def answers(engine, **settings):
    *_, columns = engine.compare(MOTTO, sampling=Sampling(**{"max_new_tokens": 16, **settings}))
    return [(c.text, c.token_ids, c.finish_reason, c.end_probability) for c in columns]


def test_answers_states_and_facts_are_the_replicas_own(engine, remote):
    assert answers(remote) == answers(engine)
    assert (remote.parameters, remote.base_name, remote.dtype) == (engine.parameters, engine.base_name, engine.dtype)
    assert remote.model.config.n_layer == engine.model.config.n_layer
    assert remote.receipts == engine.receipts and remote.anatomy("lens") == anatomy(engine.model, "lens")
    rows, variants = [[5, 6, 7], [5, 6, 8]], engine.variants()
    assert remote.logits(remote.states(rows, variants)).equal(engine.logits(engine.states(rows, variants)))


@pytest.mark.parametrize("lives", [[0], [1], [5, 3]], ids=str)
def test_a_replica_that_dies_is_replaced_and_nothing_comes_twice(engine, remote, lives):
    remote.handle.lives = list(lives)
    assert answers(remote, temperature=0.9, seed=4) == answers(engine, temperature=0.9, seed=4)
    assert len(remote.handle.streams) == len(lives) + 1


def test_after_the_last_try_the_visitor_hears_of_it(remote):
    remote.handle.lives = [2] * TRIES
    with pytest.raises(Died):
        answers(remote)


def test_stop_reaches_the_replica_and_every_column_says_so(remote):
    stopped = threading.Event()
    stream = remote.compare(MOTTO, sampling=Sampling(512, temperature=2.0), cancelled=stopped)
    next(stream)
    stopped.set()
    *_, columns = stream
    assert {c.finish_reason for c in columns} == {"cancelled"} and remote.handle.streams[0].cancelled


def test_bad_input_does_not_travel_and_the_replicas_errors_do(remote):
    with pytest.raises(BadQuestion, match="question is empty"):
        next(remote.compare("  "))
    assert not remote.handle.streams
    with pytest.raises(KeyError):
        next(remote.compare(MOTTO, variants=[Variant.of("no such adapter")]))
