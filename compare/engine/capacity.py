"""For how many columns there is room in one batch: fewer after memory ran out, slowly more while it does not.

Halved at once, widened by one at a time, as congestion is avoided in networks (Chiu and Jain, 1989).
"""

from __future__ import annotations

CALM = 64  # steps without a mishap, for one column more


class Room:
    """`most` columns to begin with; `limit` is how many advance together now."""

    def __init__(self, most: int):
        self.most = self.limit = most
        self.calm = 0

    def admits(self, columns: int, more: int) -> bool:
        """May a question with `more` columns join `columns` that advance already? By itself any question may."""
        return columns + more <= max(self.limit, more)

    def shrink(self, columns: int) -> None:
        """Memory ran out with so many."""
        if columns:
            self.limit, self.calm = max(1, min(self.limit, columns) // 2), 0

    def widen(self) -> None:
        """A step went well."""
        if self.limit < self.most:
            self.calm += 1
            if self.calm >= CALM:
                self.limit, self.calm = self.limit + 1, 0
