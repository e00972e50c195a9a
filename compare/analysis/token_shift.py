"""What the adapter changed: both answers under both models, token by token, from one forward.

Works on the generated ids as they are; nothing is tokenised again. No torch: the engine scores.
Categories of positions after Lin et al., "The Unlocking Spell on Base LLMs" (2023): how far down its list the base has
the adapted model's choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np

from compare.engine.interface import Engine, Variant
from lens.errors import BadQuestion, Note

ROUNDING = 1e-5  # nats; less than this between two models is float32, not the adapter
CATEGORIES = {"unshifted": 1, "marginal": 3}  # worst base rank of the adapted model's choice; "shifted" is above


@dataclass(frozen=True)
class Candidate:
    """A token that a model would have put here. A piece of a character is shown as escaped bytes."""

    token_id: int
    text: str
    probability: float


@dataclass(frozen=True)
class View:
    """One model at one position: the token's log-probability (nats) and rank (1: likeliest), what it would
    rather have put, likeliest first, and the probability of ending here (`</s>`)."""

    log_probability: float
    rank: int
    end_probability: float
    top: tuple[Candidate, ...]


@dataclass(frozen=True)
class Position:
    """One token of an answer under both models.

    `text` joins to the whole answer: a character of several tokens stands at its last one, "" before it.
    `kl` is KL(adapted‖base) in nats: what is lost when the base stands in for the adapted model; 0 if they agree.
    `choice_rank` is the base's rank of the adapted model's likeliest token, `category` follows from it.
    """

    token_id: int
    text: str
    base: View
    adapted: View
    kl: float
    choice_rank: int

    @property
    def category(self) -> str:
        return next((name for name, worst in CATEGORIES.items() if self.choice_rank <= worst), "shifted")


class Answered(Protocol):
    """A finished column, as far as it is looked at here."""

    variant: Variant
    token_ids: list[int]
    finish_reason: str | None
    prompt_ids: tuple[int, ...]


@dataclass(frozen=True)
class Summary:
    """Of one answer: shares of each category (0 to 1), KL(adapted‖base) in nats; None where it has no token."""

    tokens: int
    unshifted: float | None = None
    marginal: float | None = None
    shifted: float | None = None
    kl_mean: float | None = None
    kl_q90: float | None = None
    kl_q99: float | None = None


@dataclass(frozen=True)
class Shift:
    """`base` and `adapted`: that variant's answer, position by position, `</s>` among them where it came.

    `parts_at`: index of the first token in which the answers differ; None where none does as far as both go.
    """

    variant: str
    base: tuple[Position, ...]
    adapted: tuple[Position, ...]
    parts_at: int | None

    @classmethod
    def of(cls, engine: Engine, columns: Sequence[Answered], which: int = 1) -> Shift:
        """Compare columns[which] with the base, columns[0], in one forward of four rows.

        Raises BadQuestion where there is no such column or it was asked with another prompt, BadAdapter where a
        model's logits are not finite.
        """
        if not 0 <= which < len(columns):
            raise BadQuestion("column-missing", which=which, columns=len(columns))
        base, adapted = columns[0], columns[which]
        if adapted.variant.prompt != base.variant.prompt:
            raise BadQuestion("column-prompts-differ", which=which, form=adapted.variant.prompt,
                              base=base.variant.prompt)
        answers = [whole_answer(column, engine.tokens.end_id) for column in (base, adapted)]
        scored = engine.score(adapted.prompt_ids, answers, base.variant, adapted.variant)
        parts_at = next((i for i, (a, b) in enumerate(zip(*answers, strict=False)) if a != b), None)
        return cls(adapted.variant.name, scored[0], scored[1], parts_at)

    @property
    def sentence(self) -> Note:
        """What happened, read off the adapted answer."""
        total = len(self.adapted)
        changed = [i for i, p in enumerate(self.adapted) if p.category != "unshifted"]
        if not total:
            return Note("shift-empty")
        if not changed:
            return Note("shift-none" if any(p.kl > ROUNDING for p in self.adapted) else "shift-same", total=total)
        half = len(changed) // 2
        first, last = changed[half] + 1, total - changed[len(changed) - 1 - half]  # each holds more than half
        where = (Note("shift-first", count=first) if 3 * first <= total else
                 Note("shift-last", count=last) if 3 * last <= total else Note("shift-all"))
        return Note("shift-some", share=len(changed) / total, changed=len(changed), total=total, where=where)

    def as_dict(self) -> dict:
        """For JSON; numbers to six digits."""
        answers = {name: {"summary": asdict(summary(positions)),
                          "tokens": [{**asdict(p), "category": p.category} for p in positions]}
                   for name, positions in (("base", self.base), ("adapted", self.adapted))}
        return six_digits({"variant": self.variant, "parts_at": self.parts_at, "answers": answers,
                           "sentence": self.sentence.in_both})


def whole_answer(column: Answered, end_id: int) -> list[int]:
    """A column's tokens, with the `</s>` that ended it."""
    return column.token_ids + [end_id] * (column.finish_reason == "stop")


def summary(positions: Sequence[Position]) -> Summary:
    if not positions:
        return Summary(tokens=0)
    shares = {name: sum(p.category == name for p in positions) / len(positions) for name in (*CATEGORIES, "shifted")}
    kl = [p.kl for p in positions]
    mean, q90, q99 = float(np.mean(kl)), *map(float, np.quantile(kl, [0.9, 0.99]))
    return Summary(len(positions), **shares, kl_mean=mean, kl_q90=q90, kl_q99=q99)


def six_digits(value: Any) -> Any:
    """Nested JSON with every float to six significant digits."""
    if isinstance(value, dict):
        return {key: six_digits(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [six_digits(v) for v in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value
