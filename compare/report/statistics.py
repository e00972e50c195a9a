"""Intervals and a paired test for figures over questions. Numbers in, numbers out; no model.

Bootstrap percentile intervals: Efron and Tibshirani, "An Introduction to the Bootstrap" (1993).
McNemar's exact test: McNemar (1947); two-sided, from the binomial tail.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 5000
LEVEL = 0.95
WORST = 1e12  # perplexity of what predicts nothing any more; exp soon leaves what a float holds
LOG_WORST = math.log(WORST)
DRAWS_AT_ONCE = 2_000_000  # resampled indices in memory


@dataclass(frozen=True)
class Figure:
    """A value with its 95% interval, over `n` questions."""

    value: float
    low: float
    high: float
    n: int

    def as_dict(self) -> dict:
        return {"value": round(self.value, 6), "low": round(self.low, 6), "high": round(self.high, 6), "n": self.n}


def resampled_means(values: np.ndarray, seed: int) -> np.ndarray:
    """(n, k) values → (RESAMPLES, k) means of n rows drawn with replacement; the same seed draws the same rows."""
    rng, n = np.random.default_rng(seed), len(values)
    step = max(1, DRAWS_AT_ONCE // n)
    parts = [values[rng.integers(0, n, (min(step, RESAMPLES - start), n))].mean(1)
             for start in range(0, RESAMPLES, step)]
    return np.concatenate(parts)


def figure(value: float, resampled: np.ndarray, n: int) -> Figure:
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return Figure(float(value), float(low), float(high), n)


def mean(values: Sequence[float], seed: int) -> Figure | None:
    """The mean and its interval; None where there is nothing."""
    if not len(values):
        return None
    array = np.asarray(values, dtype=float)[:, None]
    return figure(array.mean(), resampled_means(array, seed)[:, 0], len(array))


def difference(before: Sequence[float], after: Sequence[float], seed: int) -> Figure | None:
    """Mean of `after` − `before`, paired by question. Raises ValueError when they are not as many."""
    if len(before) != len(after):
        raise ValueError(f"{len(before)} values before and {len(after)} after; a paired difference needs as many")
    return mean(np.asarray(after, dtype=float) - np.asarray(before, dtype=float), seed)


def perplexity(losses: Sequence[float], tokens: Sequence[int], seed: int) -> Figure:
    """exp(sum of losses ÷ sum of tokens), sentences resampled; losses in nats, one a sentence. At most WORST."""
    pairs = np.column_stack([np.asarray(losses, dtype=float), np.asarray(tokens, dtype=float)])
    drawn = resampled_means(pairs, seed)
    whole, parts = pairs[:, 0].sum() / pairs[:, 1].sum(), drawn[:, 0] / drawn[:, 1]
    return figure(np.exp(min(whole, LOG_WORST)), np.exp(np.minimum(parts, LOG_WORST)), len(pairs))


@dataclass(frozen=True)
class McNemar:
    """Questions that went from wrong to right and back, and how likely so uneven a split is by chance."""

    wrong_to_right: int
    right_to_wrong: int
    p: float

    def as_dict(self) -> dict:
        return {"wrong_to_right": self.wrong_to_right, "right_to_wrong": self.right_to_wrong,
                "p": float(f"{self.p:.4g}")}


def mcnemar(before: Sequence[bool], after: Sequence[bool]) -> McNemar:
    """Exact two-sided test over pairs that changed; p is 1 where none did."""
    up = sum(b < a for b, a in zip(before, after, strict=True))
    down = sum(b > a for b, a in zip(before, after, strict=True))
    n = up + down
    tail = sum(math.comb(n, k) for k in range(min(up, down) + 1))
    return McNemar(up, down, min(1.0, 2 * tail / 2**n))
