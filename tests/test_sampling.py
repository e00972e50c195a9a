"""The next token: one luck for all columns, drawn from the distribution; settings within their bounds."""

from __future__ import annotations

import argparse
import math

import pytest
import torch

from compare.engine.interface import BASE, RANGES, Continuation, Sampling, Variant, number, unique_names
from compare.engine.sampling import Chooser, nucleus, penalised
from lens.errors import BadQuestion

PROBABILITIES = torch.tensor([0.2, 0.5, 0.3])


def test_same_luck_for_every_column():
    logits = torch.randn(1, 50).repeat(3, 1)
    for seed in range(5):
        chosen = Chooser(Sampling(temperature=1.0, top_p=0.9, seed=seed)).choose(logits)
        assert len(set(chosen.tolist())) == 1
    repeat = [Chooser(Sampling(temperature=1.0, seed=3)).choose(logits).tolist() for _ in range(2)]
    assert repeat[0] == repeat[1]


def drawn(sampling: Sampling, history=()) -> torch.Tensor:
    """How often each of three tokens is chosen in 4,000 draws."""
    chooser, counts = Chooser(sampling), torch.zeros(3)
    for _ in range(4000):
        counts[chooser.choose(PROBABILITIES.log()[None], history)[0]] += 1
    return counts / 4000


def test_gumbel_draws_from_the_distribution():
    assert torch.allclose(drawn(Sampling(temperature=1.0)), PROBABILITIES, atol=0.03)


def test_a_temperature_sharpens_and_top_p_cuts():
    sharper = PROBABILITIES ** 2 / (PROBABILITIES ** 2).sum()
    assert torch.allclose(drawn(Sampling(temperature=0.5)), sharper, atol=0.03)
    cut = drawn(Sampling(temperature=1.0, top_p=0.7))
    assert cut[0] == 0 and torch.allclose(cut[1:], torch.tensor([0.625, 0.375]), atol=0.03)


@pytest.mark.parametrize("top_p, kept", [(0.4, [False, True, False]), (0.6, [False, True, True]),
                                         (0.9, [True, True, True])])
def test_the_nucleus_is_the_smallest_set_of_that_mass(top_p, kept):
    logits = torch.stack([PROBABILITIES.log(), PROBABILITIES.log().flip(0)])
    left = nucleus(logits, top_p)
    assert torch.isfinite(left).tolist() == [kept, kept[::-1]]
    assert left[left > -math.inf].tolist() == logits[left > -math.inf].tolist()


def test_a_penalty_divides_what_is_positive_and_multiplies_what_is_negative():
    logits = torch.tensor([[4.0, -2.0, 3.0, 0.0, -1.0], [4.0, -2.0, 3.0, 0.5, -1.0]])
    before = logits.clone()
    assert penalised(logits, [[0, 1, 1, 3], [3]], 2.0).tolist() == [[2, -4, 3, 0, -1], [4, -2, 3, 0.25, -1]]
    assert torch.equal(logits, before)
    with pytest.raises(ValueError):
        penalised(logits, [[0]], 2.0)


def test_greedy_takes_the_largest_after_the_penalty():
    logits = torch.tensor([[1.0, 3.0, 2.0], [5.0, 3.0, 2.0]])
    assert Chooser(Sampling()).choose(logits).tolist() == [1, 0]
    assert Chooser(Sampling(repetition_penalty=2.0)).choose(logits, [[1], [1]]).tolist() == [2, 0]
    assert drawn(Sampling(temperature=1.0, repetition_penalty=10.0), [[1]])[1] < 0.01  # its log p is negative


def test_given_ids_spend_their_luck():
    logits = torch.randn(1, 500)
    chooser = Chooser(Sampling(temperature=5.0, seed=7))
    steps = [chooser.choose(logits).tolist() for _ in range(5)]
    assert len({step[0] for step in steps}) > 1
    later = Chooser(Continuation(temperature=5.0, seed=7, prefix_ids=(1, 2)), spent=2)
    assert [later.choose(logits).tolist() for _ in range(3)] == steps[2:]
    assert Chooser(Sampling(seed=8)).uniform(4).tolist() != Chooser(Sampling(seed=7)).uniform(4).tolist()


LIMITS = [("max_new_tokens", 1, 4096, 0, 4097), ("temperature", 0, 10, -1, 10.5), ("top_p", 0.01, 1, 0.005, 1.5),
          ("seed", 0, 2**63 - 1, -1, 2**63), ("repetition_penalty", 0.1, 10, 0.05, 10.5)]


@pytest.mark.parametrize("name, low, high, below, above", LIMITS, ids=[limit[0] for limit in LIMITS])
def test_settings_have_bounds_that_are_said(name, low, high, below, above):
    assert [getattr(Sampling(**{name: value}), name) for value in (low, high)] == [low, high]
    for value in (below, above):
        with pytest.raises(BadQuestion) as caught:
            Sampling(**{name: value})
        assert str(caught.value) == f"{name} is {value}; allowed: {low} to {high}"


def test_a_continuation_leaves_room_for_a_token():
    assert Continuation(max_new_tokens=3, prefix_ids=(1, 2)).prefix_ids == (1, 2)
    with pytest.raises(BadQuestion, match="begin with 3 tokens; allowed: fewer than max_new_tokens, which is 3"):
        Continuation(max_new_tokens=3, prefix_ids=(1, 2, 3))
    with pytest.raises(BadQuestion, match="temperature is -1"):
        Continuation(temperature=-1)
    assert Sampling().plain and not Sampling(temperature=1).plain and not Sampling(repetition_penalty=1.1).plain


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, "1", True, None], ids=repr)
@pytest.mark.parametrize("name", list(RANGES))
def test_what_is_no_finite_number_is_refused_everywhere(name, value):
    with pytest.raises(BadQuestion) as caught:
        Variant("x", "lens", value) if name == "strength" else Sampling(**{name: value})
    assert str(caught.value).startswith(f"{name} is ") and "allowed" in str(caught.value)
    if not isinstance(value, bool):
        with pytest.raises(argparse.ArgumentTypeError, match="allowed"):
            number(name)(str(value) if value != "1" else "one")


def test_a_strength_has_one_range():
    assert [Variant("x", "lens", s).strength for s in (-10, 10, 1e-300)] == [-10, 10, 1e-300]
    for s in (-10.1, 11):
        with pytest.raises(BadQuestion, match="allowed: -10 to 10"):
            Variant.of("lens", s)
    assert number("strength")("-0.5") == -0.5 and number("max_new_tokens")("64") == 64
    with pytest.raises(argparse.ArgumentTypeError):
        number("max_new_tokens")("6.4")
    with pytest.raises(BadQuestion, match="max_new_tokens is 6.5"):
        Sampling(max_new_tokens=6.5)


@pytest.mark.parametrize("temperature", [5e-324, 1e-40, 1e-9])
def test_a_temperature_next_to_nothing_takes_the_largest(temperature):
    logits = torch.randn(1, 500, generator=torch.Generator().manual_seed(1))
    assert Chooser(Sampling(temperature=temperature)).choose(logits).item() == logits.argmax().item()


def test_names_are_unique_and_stay_where_they_are():
    given = [BASE, Variant("base", "x", 1.0), Variant.of("x"), Variant.of("x"), Variant.of("x"), Variant("x (2)", "x")]
    names = [v.name for v in unique_names(given)]
    assert names == ["base", "base (adapter)", "x", "x (2)", "x (3)", "x (2) (2)"]
    assert unique_names(unique_names(given)) == unique_names(given)
