"""deploy/ray_serve.py without Ray: its replica and its page's engine, joined by a stand-in for Serve's handle.

Ray itself is run by `python -m bench.cluster`; shown here is ours: equal answers, a replica that dies, Stop, errors.
"""

from __future__ import annotations

import sys
import threading
from types import ModuleType

import pytest
from conftest import ADAPTER, BASE, MOTTO

from compare.engine.answers import compare
from compare.engine.interface import Question, Sampling
from compare.engine.remote import TRIES, RemoteEngine
from deploy.ray_serve import Replica
from lens.errors import BadQuestion, Note, Unavailable
from tests.stand_ins import Died, Handle


@pytest.fixture(scope="module")
def replica(engine):
    return Replica(None, None, engine=engine)


@pytest.fixture
def remote(replica, monkeypatch):
    exceptions = ModuleType("ray.exceptions")
    exceptions.RayActorError = Died
    monkeypatch.setitem(sys.modules, "ray", ModuleType("ray"))
    monkeypatch.setitem(sys.modules, "ray.exceptions", exceptions)
    return RemoteEngine(Handle(replica), str(BASE), [str(ADAPTER)])


def answers(engine, **settings):
    *_, columns = compare(engine, Question(MOTTO), sampling=Sampling(**{"max_new_tokens": 16, **settings}))
    return [(c.text, c.token_ids, c.finish_reason, c.end_probability) for c in columns]


def test_answers_and_facts_are_the_replicas_own(engine, remote):
    assert answers(remote) == answers(engine)
    assert remote.facts == engine.facts and remote.adapters == engine.adapters
    assert remote.adapter_norms("lens") == engine.adapter_norms("lens")


def test_what_a_replica_has_to_tell_is_told_on_the_page(engine, remote, monkeypatch):
    """A base without a turn for an instruction, a template of the adapter's own: only the replica knew."""
    note = Note("base-template-no-system", path=BASE)
    monkeypatch.setattr(engine.shelf, "notes", [note])
    page = RemoteEngine(remote.handle, str(BASE), [str(ADAPTER)])
    assert [one.as_dict() for one in page.notes] == [note.as_dict()] == [one.as_dict() for one in engine.notes]


@pytest.mark.parametrize("lives", [[0], [1], [5, 3]], ids=str)
def test_a_replica_that_dies_is_replaced_and_nothing_comes_twice(engine, remote, lives):
    remote.handle.lives = list(lives)
    assert answers(remote, temperature=0.9, seed=4) == answers(engine, temperature=0.9, seed=4)
    assert len(remote.handle.streams) == len(lives) + 1


def test_after_the_last_try_the_visitor_hears_of_it(remote):
    remote.handle.lives = [2] * TRIES
    with pytest.raises(Unavailable) as caught:
        answers(remote)
    assert caught.value.code == "replica-died" and "the actor died" in str(caught.value)


def test_stop_reaches_the_replica(remote):
    stopped = threading.Event()
    stream = compare(remote, Question(MOTTO), sampling=Sampling(512, temperature=2.0), cancelled=stopped)
    next(stream)
    stopped.set()
    list(stream)
    assert remote.handle.streams[0].cancelled


def test_bad_input_does_not_travel(remote):
    with pytest.raises(BadQuestion, match="question is empty"):
        next(compare(remote, Question("  ")))
    assert not remote.handle.streams
