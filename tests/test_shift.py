"""Both answers under both models: every number against a plain computation on full logits."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, replace

import pytest
import torch
from conftest import MOTTO

from compare.analysis.token_shift import Position, Shift, View, summary
from compare.analysis.token_text import Tokens
from compare.engine.interface import GivenAnswer
from lens.errors import BadAdapter, BadQuestion


@dataclass
class Answered:
    """A column as the engine would hand it over."""

    variant: object
    token_ids: list[int] = field(default_factory=list)
    finish_reason: str = "length"
    prompt_ids: tuple[int, ...] = ()


@pytest.fixture(scope="module")
def prompt(engine):
    return engine.tokens.prompt_ids(MOTTO)


@pytest.fixture(scope="module")
def columns(engine, prompt):
    """The embedded pair's greedy answers, by transformers' own forward, adapter off and on."""
    found = []
    for variant in engine.variants([1.0]):
        ids = list(prompt)
        while len(ids) < len(prompt) + 16 and ids[-1] != 2:
            ids.append(int(plain_logits(engine, ids, variant)[-1].argmax()))
        answer = ids[len(prompt):]
        reason = "stop" if answer[-1] == 2 else "length"
        found.append(Answered(variant, [i for i in answer if i != 2], reason, tuple(prompt)))
    return found


@torch.inference_mode()
def plain_logits(engine, ids, variant):
    """(positions, vocabulary) float64, by PEFT and transformers alone."""
    from contextlib import nullcontext

    with nullcontext() if variant.adapter else engine.model.disable_adapter():
        return engine.model(input_ids=torch.tensor([ids])).logits[0].double()


@pytest.fixture(scope="module")
def found(engine, columns):
    return Shift.of(engine, columns)


def test_every_number_equals_the_plain_computation(engine, prompt, columns, found):
    for column, positions in zip(columns, (found.base, found.adapted), strict=True):
        ids = column.token_ids + [2] * (column.finish_reason == "stop")
        assert [p.token_id for p in positions] == ids
        base, adapted = (plain_logits(engine, prompt + ids, c.variant)[len(prompt) - 1:-1].log_softmax(-1)
                         for c in columns)
        kl = torch.nn.functional.kl_div(base, adapted, reduction="none", log_target=True).sum(-1)
        assert [p.kl for p in positions] == pytest.approx(kl.tolist(), abs=1e-4)
        assert min(p.kl for p in positions) >= 0 and max(p.kl for p in positions) > 1
        for log, views in ((base, [p.base for p in positions]), (adapted, [p.adapted for p in positions])):
            order = log.argsort(-1, descending=True).tolist()
            assert [v.rank for v in views] == [o.index(i) + 1 for o, i in zip(order, ids, strict=True)]
            assert [[c.token_id for c in v.top] for v in views] == [o[:5] for o in order]
            assert [v.log_probability for v in views] == pytest.approx(log[range(len(ids)), ids].tolist(), abs=1e-4)
            assert [v.end_probability for v in views] == pytest.approx(log[:, 2].exp().tolist(), abs=1e-5)
            tops = [c.probability for v in views for c in v.top]
            assert tops == pytest.approx(log.topk(5).values.exp().flatten().tolist(), abs=1e-5)
        choices = [order.index(best) + 1 for order, best in
                   zip(base.argsort(-1, descending=True).tolist(), adapted.argmax(-1).tolist(), strict=True)]
        assert [p.choice_rank for p in positions] == choices


def test_the_adapter_is_seen_and_the_base_is_not_shifted_from_itself(engine, prompt, columns, found):
    assert found.parts_at == 0 and summary(found.adapted).shifted > 0.3
    base = columns[0]
    same = Shift.of(engine, [base, replace(base)])
    assert same.parts_at is None and str(same.sentence).startswith("The adapter changed nothing")
    for positions in (same.base, same.adapted):
        assert all(p.category == "unshifted" for p in positions) and max(p.kl for p in positions) < 1e-6
        assert summary(positions).unshifted == 1


def test_half_strength_is_scored_at_half_strength(engine, prompt, columns, found):
    half = replace(columns[1], variant=engine.variants([0.5])[1])
    weaker = summary(Shift.of(engine, [columns[0], half]).adapted).kl_mean
    assert 0.01 < weaker < summary(found.adapted).kl_mean


def test_log_likelihood_is_the_sum_over_the_answer(engine, prompt, columns, found):
    ids = columns[1].token_ids + [2]
    expected = [sum(p.base.log_probability for p in found.adapted),
                sum(p.adapted.log_probability for p in found.adapted)]
    given = [GivenAnswer(prompt, ids, c.variant) for c in columns]
    assert engine.log_likelihoods(given) == pytest.approx(expected, abs=1e-3)
    assert expected[1] > expected[0] + 10
    assert engine.log_likelihoods([GivenAnswer(prompt, [], columns[0].variant)]) == [0.0]


def test_answers_that_are_prefixes_of_each_other_do_not_part(engine, prompt, columns):
    base, adapted = columns
    cut = replace(adapted, token_ids=base.token_ids[:4], finish_reason="cancelled")
    assert Shift.of(engine, [base, cut]).parts_at is None
    assert Shift.of(engine, [base, replace(cut, finish_reason="stop")]).parts_at == 4
    assert Shift.of(engine, [base, replace(cut, token_ids=base.token_ids[:4] + [5])]).parts_at == 4


def test_an_empty_answer_has_no_figures(engine, prompt, columns):
    nothing = Shift.of(engine, [replace(c, token_ids=[], finish_reason="length") for c in columns])
    assert nothing.adapted == () and summary(nothing.adapted).kl_mean is None
    assert "no answer" in str(nothing.sentence)
    json.dumps(nothing.as_dict(), allow_nan=False)


def test_json_says_it_all(found):
    read = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    figures = read["answers"]["adapted"]["summary"]
    assert figures["unshifted"] + figures["marginal"] + figures["shifted"] == pytest.approx(1, abs=1e-5)
    assert figures["kl_mean"] <= figures["kl_q90"] <= figures["kl_q99"]
    first = read["answers"]["adapted"]["tokens"][0]
    assert first["category"] == "shifted" and len(first["base"]["top"]) == 5
    assert read["sentence"]["zh"].startswith("适配器改变了")


def made(changed: set[int], total: int) -> Shift:
    view = View(-1.0, 1, 0.0, ())
    return Shift("lens", (), tuple(Position(5, "x", view, view, 1.0, 9 if i in changed else 1)
                                   for i in range(total)), 0)


@pytest.mark.parametrize("changed, said", [
    ({0, 1, 2, 3, 20}, "25% of the choices (5 of 20), most in the first 3 tokens."),
    ({0, 17, 18, 19}, "20% of the choices (4 of 20), most in the last 3 tokens."),
    (set(range(0, 20, 2)), "50% of the choices (10 of 20), spread over the whole answer."),
    (set(), "none of the 20 choices"),
])
def test_the_sentence_is_computed(changed, said):
    changed = {min(i, 19) for i in changed}
    assert said in str(made(changed, 20).sentence)


@pytest.mark.parametrize("rank, category", [(1, "unshifted"), (2, "marginal"), (3, "marginal"), (4, "shifted")])
def test_categories(rank, category):
    view = View(-1.0, 1, 0.0, ())
    assert Position(5, "x", view, view, 0.0, rank).category == category


def test_a_base_alone_has_nothing_to_compare(engine, prompt, columns):
    with pytest.raises(BadQuestion, match="column 1 of 1"):
        Shift.of(engine, columns[:1])


def test_logits_that_overflow_are_named(engine, prompt, columns):
    variant = replace(columns[1].variant)
    object.__setattr__(variant, "strength", math.inf)  # as no Variant lets itself be made
    huge = replace(columns[1], variant=variant)
    with pytest.raises(BadAdapter, match="NaN or infinite"):
        Shift.of(engine, [columns[0], huge])


def test_pieces_of_a_character_stand_at_its_last_token(tokenizer):
    text = "a龘靐😀规格"
    ids = tokenizer.encode(text, add_special_tokens=False)
    spelled = Tokens(tokenizer).spell(ids + [2])
    assert "".join(p.text for p in spelled) == text + "</s>"
    assert any(p.text == "" for p in spelled) and not any("\ufffd" in p.text for p in spelled)
    assert Tokens(tokenizer).spell(ids[:2])[-1].text.endswith("\ufffd")


def test_a_candidate_reads_after_the_open_bytes(tokenizer):
    pieces = Tokens(tokenizer)
    ids = tokenizer.encode("龘", add_special_tokens=False)
    whole = "龘".encode()
    done = sum(len(pieces.bytes_of(i)) for i in ids[:-1])
    assert len(ids) > 1 and pieces.candidate(ids[-1], whole[:done]) == "龘"
    assert pieces.candidate(ids[0], b"").startswith("\\xe9")
    assert pieces.candidate(8063, b"") == "<8063>"
