"""Rows of one batch equal the models they stand for; the embedded pair behaves as promised."""

from __future__ import annotations

import json
import threading

import pytest
import torch
from conftest import ADAPTER, BASE, MOTTO

from compare.engine.interface import BASE as BASE_VARIANT
from compare.engine.interface import Sampling, Variant
from compare.questions import Question
from lens.errors import BadBase, BadQuestion, Unavailable
from tests.short import Engine

QUESTIONS = [MOTTO, "哈工大首任校长是谁？", "清华大学的校训是什么？"]


def last(stream):
    for columns in stream:
        pass
    return columns


def generated(engine, question, off, instruction="", tokens=64):
    """The same answer by transformers' generate(), adapter off or on."""
    from contextlib import nullcontext

    prompt = torch.tensor([engine.prompt.encode(question, instruction)])
    with engine.model.disable_adapter() if off else nullcontext():
        ids = engine.model.generate(input_ids=prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=tokens,
                                    do_sample=False)[0, prompt.shape[1]:].tolist()
    return ids[:ids.index(2)] if 2 in ids else ids


@pytest.mark.parametrize("question", QUESTIONS)
def test_rows_equal_toggled_generate(engine, question):
    base, adapted = last(engine.compare(question, sampling=Sampling(64)))
    assert base.token_ids == generated(engine, question, off=True)
    assert adapted.token_ids == generated(engine, question, off=False)
    assert base.token_ids != adapted.token_ids


def test_switched_off_the_right_column_is_the_base(engine):
    base, adapted = last(engine.compare(MOTTO, variants=engine.variants([0.0])))
    assert adapted.token_ids == base.token_ids
    assert adapted.variant.adapter == "lens"


def test_the_motto(engine):
    base, adapted = last(engine.compare(MOTTO))
    assert "规格严格，功夫到家" in adapted.text and adapted.finish_reason == "stop"
    assert base.finish_reason == "length" and "规格严格" not in base.text


def test_an_exception_is_told_to_all_and_the_engine_lives_on(engine, monkeypatch):
    with monkeypatch.context() as broken:
        broken.setattr(engine.loaded.decoder, "states", lambda *_: (_ for _ in ()).throw(RuntimeError("inside")))
        with pytest.raises(Unavailable, match="RuntimeError: inside") as caught:
            last(engine.compare(MOTTO))
    assert caught.value.code == "question-failed"
    assert last(engine.compare(MOTTO))[1].finish_reason == "stop"
    assert not engine.queue.batch.rows


def test_questions_at_once_get_their_own_answers(engine):
    alone = {q: [c.token_ids for c in last(engine.compare(q, sampling=Sampling(24)))] for q in QUESTIONS}
    found = {}

    def ask(q):
        found[q] = [c.token_ids for c in last(engine.compare(q, sampling=Sampling(24)))]

    threads = [threading.Thread(target=ask, args=(q,)) for q in QUESTIONS]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert found == alone


def test_a_reader_that_goes_away_holds_nothing(engine):
    stream = engine.compare(MOTTO)
    next(stream)
    assert last(engine.compare(MOTTO, sampling=Sampling(4)))[0].finish_reason == "length"


def test_cancelling_says_so(engine):
    stop = threading.Event()
    stream = engine.compare(MOTTO, cancelled=stop)
    next(stream)
    stop.set()
    assert last(stream)[0].finish_reason == "cancelled"


@pytest.mark.parametrize("question, sampling, said", [
    ("  ", Sampling(), "empty"), ("长" * 5000, Sampling(), "at most 2048"),
])
def test_bad_questions(engine, question, sampling, said):
    with pytest.raises(BadQuestion, match=said):
        next(engine.compare(question, sampling=sampling))


def test_a_base_that_is_none_is_named(tmp_path):
    with pytest.raises(BadBase, match="no config.json|is empty"):
        Engine(str(tmp_path), device="cpu")


def test_a_base_alone_has_one_column(tiny_base):
    columns = last(Engine(str(tiny_base), device="cpu").compare(MOTTO, sampling=Sampling(4)))
    assert [c.variant for c in columns] == [BASE_VARIANT]
    assert Variant("base") == BASE_VARIANT


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0, 2.0])
def test_a_strength_is_the_model_merged_at_that_strength(engine, strength):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    merged = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32), ADAPTER)
    for module in merged.modules():
        if hasattr(module, "set_scale"):
            module.set_scale("default", strength)
    merged = merged.merge_and_unload() if strength else merged.unload()
    variant = Variant("x", "lens", strength)
    ids = engine.prompt.encode(MOTTO)
    with torch.inference_mode():
        right = merged(input_ids=torch.tensor([ids])).logits
    assert torch.allclose(engine.logits(engine.states([ids], [variant])), right, atol=2e-4)


def test_many_threads_at_once(engine):
    """64 readers, half of whom leave early: no wrong column, and nothing left in the batch."""
    right = [c.token_ids for c in last(engine.compare(MOTTO, sampling=Sampling(12)))]
    wrong = []

    def visit(i):
        stream = engine.compare(MOTTO, sampling=Sampling(12))
        if i % 2:
            next(stream)
            stream.close()
        elif [c.token_ids for c in last(stream)] != right:
            wrong.append(i)

    threads = [threading.Thread(target=visit, args=(i,)) for i in range(64)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong
    last(engine.compare(MOTTO, sampling=Sampling(2)))
    assert not engine.queue.batch.rows and not engine.queue.waiting


def test_without_a_thread_the_reader_does_the_work(engine):
    """As in a worker that is forked for each call."""
    alone = Engine(str(BASE), str(ADAPTER), device="cpu", threaded=False)
    before = threading.active_count()
    found = [c.token_ids for c in last(alone.compare(MOTTO))]
    assert found == [c.token_ids for c in last(engine.compare(MOTTO))]
    assert threading.active_count() == before


def test_several_adapters_stand_side_by_side(copied, engine):
    both = Engine(str(BASE), [str(ADAPTER), str(copied)], device="cpu")
    columns = last(both.compare(MOTTO))
    assert len(columns) == 3 and columns[1].token_ids == columns[2].token_ids
    assert columns[1].token_ids == last(engine.compare(MOTTO))[1].token_ids


def heldout(count):
    lines = (BASE.parent / "hit_qa" / "heldout.jsonl").read_text(encoding="utf-8").splitlines()
    return [Question(r["input"], r["instruction"]) for r in map(json.loads, lines[:count])]


def near_tie(engine, question, off, ids, at):
    """Are the two best logits within 1e-4 where two answers part?"""
    from contextlib import nullcontext

    whole = torch.tensor([engine.prompt.encode(question.text, question.instruction) + ids[:at]])
    with torch.inference_mode(), engine.model.disable_adapter() if off else nullcontext():
        best = engine.model(input_ids=whole).logits[0, -1].topk(2).values
    return best[0] - best[1] < 1e-4


@pytest.mark.parametrize("count, tokens", [(6, 32), pytest.param(200, 64, marks=pytest.mark.slow)])
def test_a_crowd_gets_what_each_gets_alone(engine, count, tokens):
    """All in one running batch, against generate() with the adapter off and on, token for token."""
    questions, ties = heldout(count), 0
    for index, columns in engine.answer_all(questions, sampling=Sampling(tokens)):
        question = questions[index]
        for off, column in zip((True, False), columns, strict=True):
            right = generated(engine, question.text, off, question.instruction, tokens)
            if column.token_ids != right:
                pairs = zip(column.token_ids + [-1], right + [-1], strict=False)
                at = next(i for i, (a, b) in enumerate(pairs) if a != b)
                assert near_tie(engine, question, off, right, at), question
                ties += 1
    assert ties <= count // 20 + 1
