"""One training: the answers of all its checkpoints at several strengths, and its losses, ready to draw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from compare.engine.interface import BASE, Variant
from compare.page.shared import held_out
from compare.page.shared.answer_column import repeats
from compare.page.shared.loss_curve import Loss, draw_curve, position
from compare.page.shared.templates import draw
from compare.report.rows import Row

STRENGTHS = (0.5, 1.0, 1.5, 2.0)
LENGTH = 48  # tokens an answer may have


@dataclass(frozen=True)
class Checkpoint:
    """An adapter and the training steps behind it."""

    name: str
    step: int


@dataclass(frozen=True)
class Answer:
    """`right`: None while it is written, and where nobody knows; `marks`: what there is to say of it, in order."""

    text: str = "…"
    right: bool | None = None
    marks: Sequence[str] = ("writing",)

    @classmethod
    def of(cls, column, row: Row | None) -> Answer:
        text, reason = column.text.strip(), column.finish_reason
        if reason is None:
            return cls(text or "…")
        right = held_out.is_right(row, text) if row else None
        found = [] if right is None else ["right" if right else "wrong"]
        if repeats(column) or reason == "loop":
            found.append("loop")
        return cls(text or "—", right, found if reason == "loop" else [*found, reason])


@dataclass(frozen=True)
class CheckpointGrid:
    """One training: its checkpoints by rising step, and its losses. `heldout`: the file of questions whose right
    answers are known."""

    checkpoints: Sequence[Checkpoint]
    losses: Sequence[Loss]
    heldout: Path = held_out.HELDOUT

    @property
    def steps(self) -> list[int]:
        """Of the base, then of each checkpoint."""
        return [0, *(c.step for c in self.checkpoints)]

    @property
    def variants(self) -> list[Variant]:
        """Base, then the grid row by row."""
        return [BASE, *(Variant(f"{c.name}@{s:g}", c.name, s) for s in STRENGTHS for c in self.checkpoints)]

    def draw(self, question: str, columns: Sequence | None = None) -> Markup:
        """All of it. `columns`: in the order of `variants`; None before there are any."""
        row, n, steps = held_out.rows(self.heldout).get(question), len(self.checkpoints), self.steps
        base, *others = [Answer.of(c, row) for c in columns] if columns else [Answer()] * len(self.variants)
        answers = [others[i:i + n] for i in range(0, len(others), n)]
        curve = draw_curve([loss for loss in self.losses if loss.step <= steps[-1]],
                           lambda step: 100 * position(step, steps) / n, steps, points=True)
        return draw("timeline/view", "view", question=question, reference=row.output if row else "", judged=bool(row),
                    curve=curve, steps=steps, strengths=[f"{s:g}" for s in STRENGTHS], base=base, answers=answers,
                    large=answers[STRENGTHS.index(1.0)][-1], length=LENGTH)
