"""One suite for every engine: here, in a replica of Ray Serve, on a lent GPU (both by a stand-in)."""

from __future__ import annotations

import json
import sys
import threading
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from conftest import MOTTO

from compare.analysis.adapter_pairs import AdapterPairs
from compare.analysis.token_shift import Shift
from compare.engine.answers import answer_all, compare
from compare.engine.interface import (
    BASE,
    PLAIN,
    Asked,
    Continuation,
    Ended,
    Engine,
    GivenAnswer,
    Question,
    Sampling,
    Step,
    Variant,
)
from compare.engine.local import LocalEngine
from compare.engine.remote import RemoteEngine
from compare.engine.zero_gpu import ZeroGpuEngine
from deploy.ray_serve import Replica
from lens.adapter.directory import read_adapters
from lens.errors import BadAdapter, BadQuestion, LensError, Unavailable
from tests.stand_ins import Died, Handle, lend
from tests.tiny import tiny_adapter

KINDS = ["local", "remote", "zero_gpu"]
QUESTIONS = [Question(MOTTO, "请回答"), Question("哈工大首任校长是谁？"), Question("你好")]
SHORT = Sampling(12)


@pytest.fixture(scope="module")
def adapters(tmp_path_factory) -> list[str]:
    folder = tmp_path_factory.mktemp("adapters")
    return [tiny_adapter(folder / name, seed) for seed, name in enumerate(("one", "two", "later"), 1)]


@pytest.fixture(scope="module")
def make(tiny_base, adapters):
    """A function: kind → a new engine with the first adapter as a column and the second on the timeline."""
    def made(kind: str) -> Engine:
        if kind == "zero_gpu":
            return ZeroGpuEngine(lend, str(tiny_base), adapters[:1], "float32", adapters[1:2])
        local = LocalEngine(str(tiny_base), adapters[:1], "cpu", timeline=adapters[1:2])
        if kind == "local":
            return local
        return RemoteEngine(Handle(Replica(None, None, engine=local)), str(tiny_base), adapters[:2])
    with pytest.MonkeyPatch.context() as patch:
        exceptions = ModuleType("ray.exceptions")
        exceptions.RayActorError = Died
        patch.setitem(sys.modules, "ray", ModuleType("ray"))
        patch.setitem(sys.modules, "ray.exceptions", exceptions)
        yield made


@pytest.fixture(scope="module", params=KINDS)
def engine(make, request):
    with make(request.param) as made:
        yield made


@pytest.fixture(scope="module")
def right(make):
    """What the local engine answers to each question, asked alone: ids and finish reasons of each column."""
    with make("local") as local:
        return [[(c.token_ids, c.finish_reason) for c in list(compare(local, q, sampling=SHORT))[-1]]
                for q in QUESTIONS]


def found(columns) -> list:
    return [(c.token_ids, c.finish_reason) for c in columns]


def test_it_says_what_is_loaded(engine, tiny_base, adapters):
    assert isinstance(engine, Engine)
    facts = engine.facts
    assert (facts.base, facts.dtype, facts.window) == (str(tiny_base), "float32", 2048)
    assert (facts.shape.vocab_size, facts.shape.hidden_size, facts.shape.n_layer, facts.shape.n_head) == (8064, 32, 2,
                                                                                                          4)
    one, two = engine.adapters.values()
    assert (one.name, one.shown, one.path) == ("one", True, Path(adapters[0]))
    assert (two.name, two.shown, two.r) == ("two", False, 4)
    assert one.receipt.base_exact and one.receipt.changes_anything and one.sha256 != two.sha256
    assert engine.variants([1.0, 0.5]) == [BASE, Variant.of("one"), Variant.of("one", 0.5)]


def test_a_question_is_asked_then_grows_then_ends(engine, right):
    asked, *steps, ended = engine.ask(QUESTIONS[:1], sampling=SHORT)
    question = QUESTIONS[0]
    assert asked == Asked(0, (BASE, Variant.of("one")),
                          (tuple(engine.tokens.prompt_ids(question.text, question.instruction)),) * 2)
    assert ended == Ended(0) and all(isinstance(step, Step) for step in steps)
    grown = [one for step in steps for one in step.grown]
    ids = [[one.token for one in grown if one.column == column and one.token is not None] for column in range(2)]
    reasons = [one.finish_reason for one in grown if one.finish_reason]
    assert [ids[0], ids[1]] == [ids for ids, _ in right[0]] and len(reasons) == 2
    assert ids[0] != ids[1]


def test_columns_grow_and_are_what_the_model_alone_says(engine, right):
    *_, columns = compare(engine, QUESTIONS[0], sampling=SHORT)
    assert found(columns) == right[0] and columns[0].text == engine.tokens.decode(columns[0].token_ids)
    assert columns[0].prompt_ids == tuple(engine.tokens.prompt_ids(QUESTIONS[0].text, "请回答"))
    json.dumps([column.as_dict() for column in columns], allow_nan=False)


def test_loaded_adapters_are_compared_by_their_weights(engine, adapters):
    found = engine.adapter_pairs(["one", "two"])
    assert found == json.loads(json.dumps(AdapterPairs(read_adapters(adapters[:2])).as_dict(), allow_nan=False))
    assert [(pair["one"], pair["other"]) for pair in found["pairs"]] == [("one", "two")]


def test_many_questions_run_side_by_side(engine, right):
    answers = dict(answer_all(engine, QUESTIONS, sampling=SHORT))
    assert [found(answers[i]) for i in range(len(QUESTIONS))] == right


def test_a_sampled_answer_follows_from_its_seed(engine, make):
    hot = Sampling(10, temperature=1.5, seed=3)
    *_, columns = compare(engine, QUESTIONS[1], [BASE, PLAIN, Variant.of("two", 0.5)], hot)
    with make("local") as local:
        *_, same = compare(local, QUESTIONS[1], [BASE, PLAIN, Variant.of("two", 0.5)], hot)
    assert found(columns) == found(same)


@pytest.mark.parametrize("leave", [False, True], ids=["stop", "leave"])
def test_stopping_and_leaving_end_an_answer(engine, leave):
    cancelled = threading.Event()
    stream = compare(engine, QUESTIONS[0], sampling=Sampling(1900, temperature=2.0), cancelled=cancelled)
    next(stream)
    if leave:
        stream.close()
        assert cancelled.is_set()
    else:
        cancelled.set()
        *_, columns = stream
        assert {column.finish_reason for column in columns} == {"cancelled"}
    *_, columns = compare(engine, QUESTIONS[0], sampling=Sampling(2))  # and the engine answers as before
    assert columns[0].finish_reason == "length"


@pytest.mark.parametrize("question, variants, sampling, code", [
    (Question("长" * 4000), None, Sampling(), "question-over-window"),
    (Question(MOTTO), [BASE, Variant.of("nobody")], Sampling(), "adapter-not-loaded"),
    (Question(MOTTO), None, Continuation(8, prefix_ids=(10**6,)), "prefix-id-not-allowed")],
    ids=["too long", "unknown adapter", "prefix"])
def test_what_cannot_be_asked_is_refused_before_anything_runs(engine, question, variants, sampling, code):
    events = engine.ask([Question(MOTTO), question], variants, sampling)
    with pytest.raises(BadQuestion) as caught:
        next(events)
    assert caught.value.code == code and str(caught.value) != code and caught.value.zh != code


def test_an_empty_question_is_refused(engine):
    with pytest.raises(BadQuestion, match="empty"):
        next(engine.ask([Question("  ")]))


def test_names_of_columns_are_unique(engine):
    twice = [BASE, Variant("base", "one", 1.0), Variant.of("one"), Variant.of("one")]
    *_, columns = compare(engine, QUESTIONS[2], twice, Sampling(2))
    assert [c.variant.name for c in columns] == ["base", "base (adapter)", "one", "one (2)"]


def test_both_answers_are_scored_where_the_model_is(engine, make):
    *_, columns = compare(engine, QUESTIONS[0], sampling=SHORT)
    shift = Shift.of(engine, columns)
    assert [p.token_id for p in shift.adapted][:12] == columns[1].token_ids and shift.parts_at is not None
    variants = [column.variant for column in columns]
    given = [GivenAnswer(columns[1].prompt_ids, [p.token_id for p in shift.adapted], v) for v in variants]
    expected = [sum(getattr(p, side).log_probability for p in shift.adapted) for side in ("base", "adapted")]
    assert engine.log_likelihoods(given) == pytest.approx(expected, abs=1e-3)
    assert abs(expected[0] - expected[1]) > 0.1
    with pytest.raises(LensError):
        engine.score(columns[0].prompt_ids, [[5]], BASE, Variant.of("nobody"))


def test_an_answer_is_looked_into_where_the_model_is(engine, make):
    one = GivenAnswer(engine.tokens.prompt_ids(MOTTO), engine.tokens.encode("规格严格"), Variant.of("one"))
    assert "by-layer" in engine.abilities
    found, lens = engine.layer_map(one), engine.by_layer(one, [1, 0])
    with make("local") as local:
        assert found.as_dict() == local.layer_map(one).as_dict() and lens == local.by_layer(one, [1, 0])
    assert [found.base, found.adapted] == pytest.approx(engine.log_likelihoods([replace(one, variant=BASE), one]),
                                                        abs=1e-3)
    assert [(p.layer, p.kind) for p in found.parts] == [(0, "attention"), (0, None), (1, "attention"), (1, None)]
    assert [t.index for t in lens.tokens] == [1, 0] and len(lens.changes) == 2
    for refused in (lambda: engine.layer_map(replace(one, variant=BASE)), lambda: engine.by_layer(one, [9])):
        with pytest.raises(BadQuestion):
            refused()


def test_norms_are_of_the_adapter_named(engine):
    one, two = engine.adapter_norms("one"), engine.adapter_norms("two")
    assert one.adapter == "one" and len(one.sites) == 4 and one.whole != two.whole
    with pytest.raises(BadAdapter) as caught:
        engine.adapter_norms("nobody")
    assert caught.value.code == "adapter-not-on-model"


def test_adapters_come_and_go_or_the_engine_says_that_they_do_not(engine, adapters):
    if "load-adapters" not in engine.abilities:
        for refused in (lambda: engine.load_adapter(Path(adapters[2])), lambda: engine.unload_adapter("one")):
            with pytest.raises(Unavailable) as caught:
                refused()
            assert caught.value.code == "engine-cannot-load-adapters"
        return
    name = engine.load_adapter(Path(adapters[2]))
    assert engine.load_adapter(Path(adapters[2])) == name == "later" and not engine.adapters[name].shown
    assert engine.variants() == [BASE, Variant.of("one")]
    *_, columns = compare(engine, QUESTIONS[0], [BASE, Variant.of(name)], SHORT)
    assert columns[0].token_ids != columns[1].token_ids
    running = compare(engine, QUESTIONS[0], [Variant.of(name)], Sampling(1900, temperature=2.0))
    next(running)
    with pytest.raises(Unavailable) as caught:
        engine.unload_adapter(name)
    assert caught.value.code == "adapter-in-use"
    running.close()
    *_, columns = compare(engine, QUESTIONS[0], sampling=Sampling(2))
    engine.unload_adapter(name)
    assert name not in engine.adapters
    with pytest.raises(BadQuestion):
        next(engine.ask([QUESTIONS[0]], [Variant.of(name)]))


@pytest.mark.parametrize("kind", KINDS)
def test_a_closed_engine_says_so(make, kind):
    engine = make(kind)
    engine.close()
    engine.close()
    assert engine.load().thread == "closed"
    given = [GivenAnswer([5], [6], BASE)]
    into = GivenAnswer([5], [6], Variant.of("one"))
    for use in (lambda: next(engine.ask([QUESTIONS[0]])), lambda: engine.log_likelihoods(given),
                lambda: engine.layer_map(into), lambda: engine.by_layer(into, [0])):
        with pytest.raises(Unavailable) as caught:
            use()
        assert caught.value.code == "engine-closed"


@pytest.mark.parametrize("kind", KINDS)
def test_a_chat_template_in_place_of_the_bases_own_is_every_engines(make, tiny_base, tmp_path, kind):
    text = "{% for m in messages %}{{ m.content }}!{% endfor %}"
    file = tmp_path / "mine.jinja"
    file.write_text(text, encoding="utf-8")
    if kind == "zero_gpu":
        engine = ZeroGpuEngine(lend, str(tiny_base), [], "float32", chat_template=str(file))
    elif kind == "local":
        engine = LocalEngine(str(tiny_base), device="cpu", chat_template=str(file))
    else:
        replica = Replica(str(tiny_base), [], "cpu", template=text)
        engine = RemoteEngine(Handle(replica), str(tiny_base), [], str(file))
    with engine:
        *_, columns = compare(engine, QUESTIONS[0], sampling=SHORT)
        assert engine.tokens.decode(columns[0].prompt_ids) == f"请回答!{MOTTO}!"
        given = [engine.tokens.prompt_ids(MOTTO, "请回答")]
    with LocalEngine(str(tiny_base), device="cpu", chat_template=str(file)) as right:
        *_, same = compare(right, QUESTIONS[0], sampling=SHORT)
        assert columns[0].token_ids == same[0].token_ids and list(same[0].prompt_ids) == given[0]
