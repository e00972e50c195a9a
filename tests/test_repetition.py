"""Loops and seq-rep-4: the contract's definitions, on hand-made and generated ids."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from compare.analysis.repetition import Loop, find_loop, seq_rep


def test_seq_rep_counts_repeated_four_grams():
    assert seq_rep([1, 2, 3]) is None
    assert seq_rep([1, 2, 3, 4]) == 0
    assert seq_rep([1] * 8) == 1 - 1 / 5


def test_a_loop_needs_three_copies_and_24_tokens():
    assert find_loop([1, 2] * 11) is None  # 22 tokens
    assert find_loop([9] + [1, 2] * 12) == Loop(period=2, copies=12, onset=1)
    assert find_loop(list(range(20)) * 2) is None  # two copies
    assert find_loop([1] * 23) is None
    assert find_loop([1] * 24) == Loop(1, 24, 0)


def test_a_pattern_has_at_most_64_tokens():
    assert find_loop(list(range(64)) * 3) == Loop(64, 3, 0)
    assert find_loop(list(range(65)) * 3) is None


def test_a_loop_that_ended_is_no_loop():
    assert find_loop([1, 2] * 20 + [3]) is None


@given(st.lists(st.integers(0, 9), max_size=20), st.integers(1, 64), st.integers(3, 6), st.integers(0, 63))
def test_what_was_looped_is_found(before, period, copies, extra):
    pattern = list(range(100, 100 + period))
    ids = before + pattern * copies + pattern[:extra % period]
    loop = find_loop(ids)
    if period * copies < 24 and period * copies + extra % period < 24:
        assert loop is None
    elif period * copies >= 24:
        assert loop == Loop(period, copies, len(before))


@given(st.lists(st.integers(0, 1), max_size=80))
def test_a_found_loop_is_one(ids):
    if loop := find_loop(ids):
        tail = ids[loop.onset:]
        assert all(a == b for a, b in zip(tail, tail[loop.period:], strict=False))
        assert loop.copies >= 3 and loop.copies * loop.period >= 24
