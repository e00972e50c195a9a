"""The KV cache: keys and values of rows of different ages on one time axis, all of whose right edges are "now".

Attention knows distances alone, and a rotated key its number within its own row, so a row needs no absolute position:
rows stand side by side, left edges masked.
To join, a row's prompt is laid in to end at now; to leave, the last row takes its place; when the axis is
full, all are moved to the left by the oldest row's start.
"""

from __future__ import annotations

import torch
from torch import Tensor

from compare.models.architecture import Architecture, KeysValues, Slot

SPARE = 128  # positions beyond those asked for
KEPT = 16 << 20  # bytes of keys that stay when no row is left; one visitor's few rows fit
KEPT_FIXED = 1 << 30  # the same where graphs were captured over them, which would have to be captured anew
ROWS = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64)


def row_bucket(rows: int) -> int:
    """For so many rows, how many are computed: beyond 64 in steps of 32."""
    return next((size for size in ROWS if size >= rows), -(-rows // 32) * 32)


def length_bucket(positions: int) -> int:
    """The same of positions: at most 128 too many, beyond 1,024 a quarter."""
    step = next((128 * wide for wide in (1, 2, 4) if positions <= 1024 * wide), 1024)
    return -(-positions // step) * step


class KVCache:
    """Rows 0 … n-1 are always the living ones. `starts[i]` is where row i begins, `now` the next position.

    What is masked must still be finite, and memory that nobody wrote to, or a row that left, need not be: from `finite`
    on all living rows are. `fixed`: for steps of fixed shape, which also read what no row has written yet. Then room
    comes in whole buckets, `finite` is 0, and from `now` on every living row is zero.
    """

    def __init__(self, decoder: Architecture, fixed: bool = False):
        self.decoder, self.fixed, self.now, self.finite = decoder, fixed, 0, 0
        self.starts: list[int] = []
        self.empty()

    def empty(self) -> None:
        """No room at all."""
        self.cache, self.bias = self.decoder.new_cache(0, 0), self.decoder.bias([], 0)
        self.own = torch.empty((0, 1), dtype=torch.long, device=self.decoder.device)  # number of a row's last position

    @property
    def positions(self) -> int:
        return self.cache.keys.shape[3]

    def reserve(self, rows: int, positions: int) -> None:
        """Make room, and some more: doubling what is small, so that it is rarely done."""
        old_rows = self.cache.keys.shape[1]
        if rows <= old_rows and positions <= self.positions:
            return
        rows = old_rows if rows <= old_rows else max(rows, 2 * old_rows)
        if positions > self.positions:
            doubled = max(SPARE, self.positions + min(self.positions, 4 * SPARE))
            positions = doubled if positions <= doubled else positions + SPARE
        positions = max(positions, self.positions)
        if self.fixed:
            rows, positions = row_bucket(rows), length_bucket(positions)
        grown, n = self.decoder.new_cache(rows, positions), len(self.starts)
        for old, new in ((self.cache.keys, grown.keys), (self.cache.values, grown.values)):
            if self.fixed:
                new.zero_()
            if n:
                new[:, :n, :, :self.now] = old[:, :n, :, :self.now]
        self.cache = grown
        self.bias = self.bias.new_zeros((rows, self.bias.shape[1], positions))
        self.bias[:n] = self.decoder.bias(self.starts, positions)
        self.own = torch.cat([self.own[:n], self.own.new_zeros((rows - n, 1))])

    def move(self, by: int) -> None:
        """Shift all rows along the axis, to the right (by > 0) or to the left."""
        self.reserve(len(self.starts), self.now + by)
        low, n = min(self.starts), len(self.starts)
        for part in (self.cache.keys, self.cache.values):
            part[:, :n, :, low + by:self.now + by] = part[:, :n, :, low:self.now].clone()
            if self.fixed:
                part[:, :n, :, low:max(low, low + by)] = 0
                part[:, :n, :, self.now + by:self.now] = 0
        self.now, self.starts = self.now + by, [start + by for start in self.starts]
        self.finite = 0 if self.fixed else low + by
        self.bias[:n] = self.decoder.bias(self.starts, self.positions)

    def make_way(self, rows: int, length: int) -> bool:
        """Room for rows that enter some steps from now, so that entering has less to do; was there anything to do?"""
        if self.fixed or not self.starts or length < self.now + SPARE:
            return False
        self.reserve(len(self.starts) + rows, length + SPARE)
        self.move(length - self.now)
        return True

    def touch(self, rows: int, start: int, end: int) -> None:
        """Write to memory that rows which enter next will need, a chunk's worth for each chunk of their prompt: the
        system gives it then, and not all of it at once as they enter, which took 100 to 400 ms for 2,048 positions."""
        n = len(self.starts)
        if n and not self.fixed:
            for part in (self.cache.keys, self.cache.values):
                part[:, n:n + rows, :, start:end] = 0
            self.clear(max(0, self.finite - (end - start)))

    def clear(self, start: int) -> None:
        """Make living rows finite from `start` on."""
        if start < self.finite:
            for part in (self.cache.keys, self.cache.values):
                part[:, :len(self.starts), :, start:self.finite] = 0
            self.finite = start

    def enter(self, rows: int, length: int) -> KeysValues:
        """Add rows whose `length` first positions end at now; returns the place for their keys and values."""
        n = len(self.starts)
        self.reserve(n + rows, max(length, self.now) + 1)
        if not n:
            self.now, self.finite = length, 0
        elif length > self.now:
            self.move(length - self.now)
        start = self.now - length
        self.clear(start)
        self.starts += [start] * rows
        self.bias[n:n + rows], self.own[n:n + rows] = self.decoder.bias([start], self.positions), length - 1
        for part in (self.cache.keys, self.cache.values):
            part[:, n:n + rows, :, self.finite:start] = 0
            if self.fixed:
                part[:, n:n + rows, :, self.now:] = 0
        return KeysValues(*(part[:, n:n + rows, :, start:self.now] for part in (self.cache.keys, self.cache.values)))

    def leave(self, row: int) -> None:
        """Take a row out; the last row takes its number."""
        last = len(self.starts) - 1
        if row != last:
            for part in (self.cache.keys, self.cache.values):
                part[:, row, :, :self.now] = part[:, last, :, :self.now]
            self.bias[row], self.own[row], self.starts[row] = self.bias[last], self.own[last], self.starts[last]
        self.starts.pop()
        # a crowd's room, which no visitor after it needs
        if not self.starts and self.cache.keys.nbytes > (KEPT_FIXED if self.fixed else KEPT):
            self.empty()

    def step(self) -> Slot:
        """The place of the next position of all rows; now moves on by one."""
        low, full = min(self.starts), self.now == self.positions
        narrower = self.fixed and length_bucket(self.now + 1 - low) < length_bucket(self.now + 1)
        if narrower or full and low > self.positions // 4:
            self.move(-low)
            low = 0
        elif full:
            self.reserve(len(self.starts), self.now + 1)
        n, self.now = len(self.starts), self.now + 1
        cache = KeysValues(*(part[:, :n, :, low:self.now] for part in (self.cache.keys, self.cache.values)))
        return Slot(cache, self.now - 1 - low, self.bias[:n, :, None, low:self.now], self.own[:n].add_(1))

    def whole(self, now: Tensor) -> Slot:
        """The place that `step` gave last, in a fixed shape: whole buckets of rows, and of positions from 0 on, with
        the position itself in `now`, (1,). Positions beyond it are there, and not masked in its bias."""
        rows, positions = row_bucket(len(self.starts)), length_bucket(self.now)
        cache = KeysValues(*(part[:, :rows, :, :positions] for part in (self.cache.keys, self.cache.values)))
        return Slot(cache, positions - 1, self.bias[:rows, :, None, :positions], self.own[:rows], now)
