"""Loops in an answer, and how much of it is repetition. Token ids in, figures out; pure Python.

seq-rep-n is from Welleck et al., "Neural Text Generation with Unlikelihood Training" (2019).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

LONGEST_PERIOD = 64  # tokens
FEWEST_COPIES = 3
FEWEST_TOKENS = 24


@dataclass(frozen=True)
class Loop:
    """An answer's tail that repeats: pattern length and first token's index (tokens), whole copies."""

    period: int
    copies: int
    onset: int


def seq_rep(ids: Sequence[int], n: int = 4) -> float | None:
    """Share of n-grams that occurred before, 0 (none) to 1; None where there is no n-gram."""
    grams = [tuple(ids[i:i + n]) for i in range(len(ids) - n + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else None


def find_loop(ids: Sequence[int]) -> Loop | None:
    """The loop that the answer ends in, with the shortest period; None if it ends in none.

    A loop is at least 3 copies of one pattern of 1 to 64 tokens, together at least 24 tokens.
    """
    for period in range(1, min(LONGEST_PERIOD, len(ids) // FEWEST_COPIES) + 1):
        start = len(ids) - period
        while start > 0 and ids[start - 1] == ids[start - 1 + period]:
            start -= 1
        copies = (len(ids) - start) // period
        if copies >= FEWEST_COPIES and copies * period >= FEWEST_TOKENS:
            return Loop(period, copies, start)
    return None
