"""The next token: one luck for all columns, drawn from the distribution; settings within their bounds."""

from __future__ import annotations

import pytest
import torch

from compare.errors import BadQuestion
from compare.sampling import Chooser, Sampling


def test_same_luck_for_every_column():
    logits = torch.randn(1, 50).repeat(3, 1)
    for seed in range(5):
        chosen = Chooser(Sampling(temperature=1.0, top_p=0.9, seed=seed)).choose(logits)
        assert len(set(chosen.tolist())) == 1
    repeat = [Chooser(Sampling(temperature=1.0, seed=3)).choose(logits).tolist() for _ in range(2)]
    assert repeat[0] == repeat[1]


def test_gumbel_draws_from_the_distribution():
    probabilities = torch.tensor([0.5, 0.3, 0.2])
    chooser = Chooser(Sampling(temperature=1.0))
    counts = torch.zeros(3)
    for _ in range(4000):
        counts[chooser.choose(probabilities.log()[None])[0]] += 1
    assert torch.allclose(counts / 4000, probabilities, atol=0.03)


def test_bad_settings():
    with pytest.raises(BadQuestion, match="temperature is -1; allowed: 0 to 10"):
        Sampling(temperature=-1)
