"""A fault ends one question; a long one holds nobody up; a closed engine leaves nothing behind."""

from __future__ import annotations

import gc
import shutil
import threading
import time
import weakref
from pathlib import Path

import pytest
import torch
from conftest import MOTTO

from compare.engine import queue
from compare.engine.answers import compare
from compare.engine.interface import BASE, Question, Sampling, Variant
from compare.engine.local import LocalEngine
from compare.engine.sampling import Chooser
from compare.models.architecture import CHUNKS
from lens.errors import BadAdapter, Unavailable
from tests.tiny import tiny_adapter

OTHERS = [Question(q) for q in (MOTTO, "哈工大首任校长是谁？", "你好")]
VICTIM = Question("今天天气怎么样？请详细说说。")
SAMPLING = Sampling(40, temperature=1.0, seed=1)
THEIRS = Sampling(40, temperature=1.0, seed=13)  # of the question that goes wrong


@pytest.fixture(scope="module")
def paths(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("adapters")
    return [Path(tiny_adapter(folder / name, seed)) for seed, name in enumerate(("one", "red", "blue", "green"), 1)]


@pytest.fixture(scope="module")
def engine(tiny_base, paths):
    with LocalEngine(str(tiny_base), str(paths[0]), "cpu") as made:
        yield made


def answer(engine, question, sampling=SAMPLING, variants=None) -> list[list[int]]:
    *_, columns = compare(engine, question, variants, sampling)
    return [column.token_ids for column in columns]


@pytest.fixture(scope="module")
def alone(engine):
    return [answer(engine, question) for question in OTHERS]


def beside(engine, question, sampling=THEIRS, variants=None) -> tuple[list, Exception | None]:
    """Ask while the others are answered: (their answers, what ended the question)."""
    streams, error = [compare(engine, other, None, SAMPLING) for other in OTHERS], None
    shown = [next(stream) for stream in streams]
    try:
        answer(engine, question, sampling, variants)
    except Exception as err:  # noqa: BLE001
        error = err
    for i, stream in enumerate(streams):
        for columns in stream:
            shown[i] = columns
    return [[column.token_ids for column in columns] for columns in shown], error


def raising(engine, monkeypatch, when, error) -> None:
    """`when(ids)`: on which (rows, length) ids the model's forward raises."""
    states = engine.loaded.decoder.states

    def forward(ids, *rest):
        if when(ids):
            raise error
        return states(ids, *rest)

    monkeypatch.setattr(engine.loaded.decoder, "states", forward)


def ids_of(engine, question: Question) -> torch.Tensor:
    return torch.tensor(engine.tokens.prompt_ids(question.text))


def test_a_fault_in_prefill_ends_one_question(engine, alone, monkeypatch):
    length = len(ids_of(engine, VICTIM))
    raising(engine, monkeypatch, lambda ids: ids.shape[1] == length, RuntimeError("in prefill"))
    found, error = beside(engine, VICTIM)
    assert found == alone and error.code == "question-failed" and "in prefill" in str(error)


def test_a_fault_in_a_step_ends_one_question(engine, alone, monkeypatch):
    """Raised for all rows together at first, as every fault of a step is."""
    theirs = answer(engine, VICTIM, THEIRS)[0]
    spelled = {token for ids in (*alone, *([answer(engine, VICTIM, THEIRS)[1]],)) for row in ids for token in row}
    mark = next(token for token in theirs[3:] if token not in spelled)
    raising(engine, monkeypatch, lambda ids: ids.shape[1] == 1 and bool((ids == mark).any()), RuntimeError("in a step"))
    found, error = beside(engine, VICTIM)
    assert found == alone and error.code == "question-failed" and "in a step" in str(error)
    assert not engine.queue.batch.rows


def test_a_model_that_always_raises_ends_everybodys_and_the_engine_goes_on(engine, alone, monkeypatch):
    with monkeypatch.context() as broken:
        raising(engine, broken, lambda ids: ids.shape[1] == 1, RuntimeError("no step at all"))
        with pytest.raises(Unavailable, match="no step at all"):
            answer(engine, OTHERS[0])
    assert answer(engine, OTHERS[0]) == alone[0]


@pytest.mark.parametrize("method", ["choose", "uniform"])
def test_a_fault_in_sampling_ends_one_question(engine, alone, monkeypatch, method):
    whole = getattr(Chooser, method)

    def broken(self, *rest):
        if self.sampling.seed == THEIRS.seed:
            raise ZeroDivisionError("in sampling")
        return whole(self, *rest)

    monkeypatch.setattr(Chooser, method, broken)
    found, error = beside(engine, VICTIM)
    assert found == alone and error.code == "question-failed" and "ZeroDivisionError" in str(error)


def test_an_adapter_that_cannot_come_back_ends_one_question(tiny_base, paths, tmp_path, alone):
    """Prepared in the model's thread: its directory is gone since it was evicted."""
    with LocalEngine(str(tiny_base), str(paths[0]), "cpu", most_added=1) as engine:
        gone = engine.load_adapter(shutil.copytree(paths[1], tmp_path / "gone"))
        engine.load_adapter(paths[2])
        shutil.rmtree(tmp_path / "gone")
        found, error = beside(engine, VICTIM, variants=[BASE, Variant.of(gone)])
        assert found == alone and isinstance(error, BadAdapter)


def test_memory_that_runs_out_in_prefill_is_told_to_whoever_took_it(engine, alone, monkeypatch):
    length, read = len(ids_of(engine, VICTIM)), []
    raising(engine, monkeypatch, lambda ids: ids.shape[1] > 1 and (read.append(ids.shape[1]) or ids.shape[1] == length),
            torch.OutOfMemoryError("CUDA out of memory"))
    found, error = beside(engine, VICTIM)
    assert found == alone and error.code == "question-out-of-memory"
    assert len(read) - read.count(length) == len(OTHERS)  # none of the others was read a second time


def test_an_innocent_question_is_not_told_that_memory_ran_out(engine, alone, monkeypatch):
    """What is scored beside it takes all the memory, again and again."""
    stream = compare(engine, OTHERS[0], None, SAMPLING)
    next(stream)
    with monkeypatch.context() as short:
        raising(engine, short, lambda ids: ids[0].tolist() == [5, 6, 7], MemoryError())
        for _ in range(3):
            with pytest.raises(Unavailable, match="not enough memory"):
                engine.score([5, 6], [[7]], BASE, BASE)
    *_, columns = stream
    assert [column.token_ids for column in columns] == alone[0]


def test_a_long_question_is_read_in_pieces_between_the_steps_of_the_others(engine, alone, monkeypatch):
    long, seen, states = Question("规格严格，功夫到家。" * 150), [], engine.loaded.decoder.states

    def forward(ids, *rest):
        seen.append((*ids.shape, len(engine.queue.batch.rows)))
        return states(ids, *rest)

    monkeypatch.setattr(queue, "READING", 0.0)
    stream = compare(engine, OTHERS[0], None, Sampling(1500, temperature=2.0))
    next(stream)
    monkeypatch.setattr(engine.loaded.decoder, "states", forward)
    answer(engine, long, Sampling(1))
    stream.close()
    chunks = [i for i, (_, length, others) in enumerate(seen) if length > 1 and others]
    assert len(chunks) > 5 and all(seen[i][0] * seen[i][1] <= CHUNKS["cpu"] for i in chunks)
    assert all(seen[i + 1][1] == 1 for i in chunks[:-1])  # a step of the other after each piece


def test_a_question_read_in_pieces_is_answered_as_one_read_at_once(engine, monkeypatch):
    long, greedy = Question("哈尔滨工业大学" * 60), Sampling(8)
    found = answer(engine, long, greedy)
    monkeypatch.setitem(CHUNKS, "cpu", 10**6)
    assert answer(engine, long, greedy) == found


# ---- adapters added later


def test_of_added_adapters_the_longest_unused_goes_and_comes_back(tiny_base, paths):
    with LocalEngine(str(tiny_base), str(paths[0]), "cpu", most_added=2) as engine:
        on_model = lambda: set(engine.loaded.adapters)  # noqa: E731
        a, b = (engine.load_adapter(path) for path in paths[1:3])
        first = answer(engine, MOTTO_Q, variants=[Variant.of(a)])  # a is used after b was
        c = engine.load_adapter(paths[3])
        assert on_model() == {"one", a, c} and set(engine.adapters) == {"one", a, b, c}
        second = answer(engine, MOTTO_Q, variants=[Variant.of(b)])
        assert on_model() == {"one", b, c}
        assert answer(engine, MOTTO_Q, variants=[Variant.of(a)]) == first != second
        assert engine.adapter_norms(b).adapter == b  # measured where it has to come back first
        assert set(engine.adapters[a].receipt.as_dict()) and len(on_model()) == 3


def test_an_adapter_in_use_is_not_evicted(tiny_base, paths):
    with LocalEngine(str(tiny_base), str(paths[0]), "cpu", most_added=1) as engine:
        a = engine.load_adapter(paths[1])
        right = answer(engine, MOTTO_Q, variants=[Variant.of(a)])
        stream = compare(engine, MOTTO_Q, [Variant.of(a)], SAMPLING)
        next(stream)
        b = engine.load_adapter(paths[2])
        assert set(engine.loaded.adapters) == {"one", a, b}
        *_, columns = stream
        assert [column.token_ids for column in columns] == right


MOTTO_Q = Question(MOTTO)


# ---- closing


def remains(tiny_base, paths, close: bool) -> list[weakref.ref]:
    """Of an engine that answered: its model, batch, cache and thread."""
    engine = LocalEngine(str(tiny_base), str(paths[0]), "cpu")
    answer(engine, MOTTO_Q)
    left = [weakref.ref(thing) for thing in (engine, engine.loaded, engine.loaded.model, engine.loaded.decoder,
                                             engine.loaded.decoder.embedding, engine.queue, engine.queue.batch,
                                             engine.queue.batch.kv_cache, engine.thread, engine.thread.thread)]
    if close:
        engine.close()
    return left


def tensors() -> int:
    gc.collect()
    return sum(isinstance(thing, torch.Tensor) for thing in gc.get_objects())


@pytest.mark.parametrize("close", [True, False], ids=["closed", "dropped"])
def test_what_an_engine_held_is_freed(tiny_base, paths, close):
    left = remains(tiny_base, paths, close)
    gc.collect()
    assert not [ref for ref in left if ref() is not None]


def test_engines_one_after_the_other_leave_nothing(tiny_base, paths):
    remains(tiny_base, paths, close=True)
    threads, before = threading.active_count(), tensors()
    for _ in range(3):
        left = remains(tiny_base, paths, close=True)
        gc.collect()
        assert not [ref for ref in left if ref() is not None]
    assert threading.active_count() == threads and tensors() <= before + 2


def test_whoever_waits_when_an_engine_is_closed_is_told(tiny_base):
    engine = LocalEngine(str(tiny_base), device="cpu")
    stream = compare(engine, MOTTO_Q, None, Sampling(1900, temperature=2.0))
    next(stream)
    engine.close()
    began = time.monotonic()
    with pytest.raises(Unavailable) as caught:
        list(stream)
    assert caught.value.code == "engine-closed" and time.monotonic() - began < 5
