"""Two answers to one question, of which the visitor is not told which is whose."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from compare.page.shared.held_out import is_right
from compare.page.shared.templates import draw
from compare.report.rows import Row

CHOICES = ("left", "right", "both", "neither")


@dataclass(frozen=True)
class Answer:
    """One finished answer. `copies`: of the pattern that it ends in, where it loops."""

    text: str
    finish_reason: str
    tokens: int
    copies: int | None = None

    @classmethod
    def of(cls, column) -> Answer:
        return cls(column.text, column.finish_reason, len(column.token_ids), column.loop and column.loop.copies)


@dataclass(frozen=True)
class BlindPair:
    """Two answers to a row. `adapted_left` is not shown before the vote; `identity` says nothing of it."""

    identity: str
    row: Row
    base: Answer
    adapted: Answer
    adapted_left: bool

    @property
    def sides(self) -> tuple[str, str]:
        return ("adapted", "base") if self.adapted_left else ("base", "adapted")

    @property
    def answers(self) -> dict[str, Answer]:
        return {"base": self.base, "adapted": self.adapted}

    def verdict(self, choice: str) -> str:
        """What a choice says of the adapted answer."""
        if choice in ("left", "right"):
            return "better" if (choice == "left") == self.adapted_left else "worse"
        return choice

    def draw(self, choice: str | None, below: Markup) -> Markup:
        """All of it: open while `choice` is None, then with names, reference and what is `below`."""
        right = {who: is_right(self.row, answer.text) for who, answer in self.answers.items()}
        return draw("blind/view", "pair", pair=self, right=right, choice=choice, below=below,
                    verdict=self.verdict(choice) if choice else "")
