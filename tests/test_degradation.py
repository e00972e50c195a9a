"""Memory that runs out and a thread that dies: visitors wait a little longer, and get the answers they had got.

Errors are put in; with too little memory for real, test_tight.py.
"""

from __future__ import annotations

import threading
import weakref

import pytest
import torch
from conftest import ADAPTER, BASE, MOTTO

from compare.engine.interface import BASE as BASE_VARIANT
from compare.engine.interface import Continuation, Sampling
from compare.engine.memory import CALM, Capacity, let_go, ran_out
from compare.engine.model_thread import ENDED, ModelThread
from compare.engine.open_question import OpenQuestion
from compare.engine.sampling import Chooser
from compare.questions import Question
from lens.errors import Unavailable
from tests.short import Engine

QUESTIONS = [Question(q) for q in (MOTTO, "哈工大首任校长是谁？", "清华大学的校训是什么？", "哈工大在哪里？", "你好")]
TOLD = [torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you tried to "
                     "allocate 8 bytes. Error code 12 (Cannot allocate memory)")]


@pytest.fixture
def mortal():
    """An engine of its own, whose thread may die."""
    made = Engine(str(BASE), str(ADAPTER), device="cpu")
    yield made
    made.close()


@pytest.fixture(autouse=True)
def roomy(engine):
    """The shared engine has its room back afterwards."""
    yield
    engine.queue.capacity = Capacity(64)


def answers(engine, sampling=Sampling(24)) -> list:
    found = {i: [(c.token_ids, c.finish_reason) for c in columns]
             for i, columns in engine.answer_all(QUESTIONS, sampling=sampling)}
    return [found[i] for i in range(len(QUESTIONS))]


def running_out(engine, monkeypatch, most: int, error: BaseException, every: int = 1) -> list[int]:
    """Forwards of more than `most` rows raise; returns the numbers of rows that were tried."""
    tried, states = [], engine.loaded.decoder.states

    def forward(ids, *rest):
        tried.append(len(ids))
        if len(ids) > most and not len(tried) % every:
            raise error
        return states(ids, *rest)

    monkeypatch.setattr(engine.loaded.decoder, "states", forward)
    return tried


@pytest.mark.parametrize("error, sampling", [
    *((error, Sampling(12)) for error in TOLD), (TOLD[0], Sampling(12, temperature=1.2, seed=5)),
    (TOLD[0], Sampling(12, repetition_penalty=1.3))], ids=["cuda", "python", "cpu", "sampled", "penalised"])
def test_the_batch_shrinks_and_everybody_is_answered_as_before(engine, monkeypatch, error, sampling):
    right = answers(engine, sampling)
    tried = running_out(engine, monkeypatch, most=4, error=error)
    assert answers(engine, sampling) == right
    assert max(tried) > 4 and engine.queue.capacity.limit < 8
    assert not engine.queue.batch.rows and not engine.queue.waiting


def test_answers_in_the_middle_of_growing_go_on_from_where_they_are(engine, monkeypatch):
    """Whatever was read once is not read twice, and the column is the one that it would have been."""
    right = answers(engine, hot := Sampling(24, temperature=1.0, seed=2))
    tried = running_out(engine, monkeypatch, most=2, error=TOLD[0], every=7)
    assert answers(engine, hot) == right
    assert engine.queue.capacity.limit < 64 and len(tried) > 24  # steps


def test_answers_with_a_given_beginning_keep_it(engine, monkeypatch):
    right = answers(engine, begun := Continuation(24, temperature=1.0, prefix_ids=(200, 300)))
    running_out(engine, monkeypatch, most=4, error=TOLD[0], every=3)
    assert answers(engine, begun) == right


def test_one_that_does_not_fit_by_itself_is_told_and_nobody_else_is(engine, monkeypatch):
    right = answers(engine)
    states = engine.loaded.decoder.states
    monkeypatch.setattr(engine.loaded.decoder, "states",
                        lambda ids, *rest: states(ids, *rest) if len(ids) < 3 else (_ for _ in ()).throw(TOLD[0]))
    too_wide = engine.compare(MOTTO, variants=engine.variants([0.5, 1.0, 1.5]))
    with pytest.raises(Unavailable, match="not enough memory for this question"):
        list(too_wide)
    assert answers(engine) == right


def test_a_forward_beside_the_batch_makes_the_batch_give_way(engine, monkeypatch):
    rows, variants = [[5, 6, 7], [5, 6, 8]], engine.variants()
    right, alone = engine.states(rows, variants), answers(engine)
    read, failures = engine.loaded.decoder.read_chunk, iter([True])

    def once(ids, *rest):
        if ids.shape[1] == 3 and next(failures, False):
            raise TOLD[0]
        return read(ids, *rest)

    stream = engine.compare(QUESTIONS[0].text, sampling=Sampling(24))
    next(stream)
    monkeypatch.setattr(engine.loaded.decoder, "read_chunk", once)
    assert torch.equal(engine.states(rows, variants), right)
    *_, columns = stream
    assert [(c.token_ids, c.finish_reason) for c in columns] == alone[0]
    monkeypatch.setattr(engine.loaded.decoder, "read_chunk", lambda *_: (_ for _ in ()).throw(TOLD[0]))
    with pytest.raises(Unavailable, match="not enough memory"):
        engine.states(rows, variants)


def test_cancelled_while_back_in_line(engine, monkeypatch):
    running_out(engine, monkeypatch, most=2, error=TOLD[0])
    stop = threading.Event()
    streams = [engine.compare(q.text, sampling=Sampling(24), cancelled=stop) for q in QUESTIONS]
    shown = [next(stream) for stream in streams]
    stop.set()
    for stream in streams:
        list(stream)
    assert {c.finish_reason for columns in shown for c in columns} <= {"cancelled", "stop", "length"}
    assert not engine.queue.batch.rows and not engine.queue.waiting


def test_room_comes_back_slowly():
    room = Capacity(64)
    room.shrink(40)
    assert room.limit == 20 and not room.admits(18, 4) and room.admits(0, 99)
    for _ in range(3 * CALM):
        room.widen()
    assert room.limit == 23
    for _ in range(100 * CALM):
        room.widen()
    assert room.limit == 64
    room.shrink(0)  # memory ran out beside an empty batch
    assert room.limit == 64


@pytest.mark.parametrize("error, memory", [(TOLD[0], True), (TOLD[1], True), (TOLD[2], True),
                                            (RuntimeError("MPS backend out of memory"), True),
                                            (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
                                            (ValueError("out of memory"), False)])
def test_what_counts_as_memory_running_out(error, memory):
    assert ran_out(error) is memory


def test_a_caught_error_holds_no_tensors():
    kept: list = []

    def needs_much():
        large = torch.zeros(1000)
        kept.append(weakref.ref(large))
        raise MemoryError

    try:
        needs_much()
    except MemoryError as err:
        let_go(err)
        assert kept[0]() is None


# ---- a thread that dies


def dying(owner: ModelThread, monkeypatch, times: int) -> None:
    """The next `times` turns of work end the thread, as nothing but SystemExit and its like can."""
    work, left = owner.work, iter(range(times))

    def once():
        if next(left, None) is not None:
            raise SystemExit
        return work()

    monkeypatch.setattr(owner, "work", once)


def test_a_thread_that_dies_is_replaced_and_nobody_notices(mortal, monkeypatch):
    engine = mortal
    right = answers(engine)
    stream = engine.compare(QUESTIONS[0].text, sampling=Sampling(24))
    next(stream)
    dying(engine.thread, monkeypatch, times=1)
    *_, columns = stream
    assert [(c.token_ids, c.finish_reason) for c in columns] == right[0]
    assert engine.load().thread == "restarted" and engine.load().restarts == 1
    assert answers(engine) == right


def test_after_the_second_death_everybody_is_told(mortal, monkeypatch):
    engine = mortal
    stream = engine.compare(MOTTO, sampling=Sampling(400, temperature=2.0))
    next(stream)
    dying(engine.thread, monkeypatch, times=2)
    with pytest.raises(Unavailable, match="the model's thread ended twice"):
        list(stream)
    with pytest.raises(Unavailable, match="start the program anew"):
        next(engine.compare(MOTTO))
    with pytest.raises(Unavailable):
        engine.logits(torch.zeros(1, 1))
    assert engine.load().thread == ENDED and not engine.queue.waiting and not engine.queue.batch.rows


def test_a_call_survives_the_death_of_its_thread(monkeypatch):
    owner = ModelThread(lambda: False)
    dying(owner, monkeypatch, times=1)
    owner.running()
    owner.wake.set()
    assert owner.call(lambda: 7) == 7
    with pytest.raises(KeyError):
        owner.call(lambda: {}[1])
    owner.close()


def test_a_question_put_back_draws_what_its_next_step_would_have():
    question = OpenQuestion([[1]], [BASE_VARIANT], Sampling(9, temperature=1.0), lambda event: None)
    logits = torch.zeros(1, 50)
    chooser = Chooser(question.sampling, question.spent)
    drawn = [chooser.choose(logits).item() for _ in range(5)]
    question.token_ids[0] = drawn[:3]
    later = Chooser(question.sampling, question.spent)
    assert [later.choose(logits).item() for _ in range(2)] == drawn[3:]
