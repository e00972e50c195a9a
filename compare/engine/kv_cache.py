"""The KV cache: keys and values of rows of different ages on one time axis, all of whose right edges are "now".

Attention knows distances alone, and a rotated key its number within its own row, so a row needs no absolute position:
rows stand side by side, left edges masked.
To join, a row's prompt is laid in to end at now; to leave, the last row takes its place; when the axis is
full, all are moved to the left by the oldest row's start.
"""

from __future__ import annotations

import torch

from compare.models.architecture import Architecture, KeysValues, Slot

SPARE = 128  # positions beyond those asked for
KEPT = 16 << 20  # bytes of keys that stay when no row is left; one visitor's few rows fit


class KVCache:
    """Rows 0 … n-1 are always the living ones. `starts[i]` is where row i begins, `now` the next position."""

    def __init__(self, decoder: Architecture):
        self.decoder, self.now = decoder, 0
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
        grown, n = self.decoder.new_cache(rows, positions), len(self.starts)
        for old, new in ((self.cache.keys, grown.keys), (self.cache.values, grown.values)):
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
            part[:, :n, :, low:max(low, low + by)] = 0  # what is masked must still be finite
        self.now, self.starts = self.now + by, [start + by for start in self.starts]
        self.bias[:n] = self.decoder.bias(self.starts, self.positions)

    def enter(self, rows: int, length: int) -> KeysValues:
        """Add rows whose `length` first positions end at now; returns the place for their keys and values."""
        n = len(self.starts)
        self.reserve(n + rows, max(length, self.now) + 1)
        if not n:
            self.now = length
        elif length > self.now:
            self.move(length - self.now)
        start = self.now - length
        self.starts += [start] * rows
        self.bias[n:n + rows], self.own[n:n + rows] = self.decoder.bias([start], self.positions), length - 1
        for part in (self.cache.keys, self.cache.values):
            part[:, n:n + rows, :, :start] = 0  # what a former row left may be inf
        return KeysValues(*(part[:, n:n + rows, :, start:self.now] for part in (self.cache.keys, self.cache.values)))

    def leave(self, row: int) -> None:
        """Take a row out; the last row takes its number."""
        last = len(self.starts) - 1
        if row != last:
            for part in (self.cache.keys, self.cache.values):
                part[:, row, :, :self.now] = part[:, last, :, :self.now]
            self.bias[row], self.own[row], self.starts[row] = self.bias[last], self.own[last], self.starts[last]
        self.starts.pop()
        if not self.starts and self.cache.keys.nbytes > KEPT:  # a crowd's room, which no visitor after it needs
            self.empty()

    def step(self) -> Slot:
        """The place of the next position of all rows; now moves on by one."""
        low = min(self.starts)
        if self.now == self.positions:
            if low > self.positions // 4:
                self.move(-low)
                low = 0
            else:
                self.reserve(len(self.starts), self.now + 1)
        n, self.now = len(self.starts), self.now + 1
        cache = KeysValues(*(part[:, :n, :, low:self.now] for part in (self.cache.keys, self.cache.values)))
        return Slot(cache, self.now - 1 - low, self.bias[:n, :, None, low:self.now], self.own[:n].add_(1))
