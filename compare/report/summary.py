"""Answers and losses → the figures of the report, as the plain dictionaries that report.json holds.

`README.md` beside this file documents them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from operator import attrgetter

from compare.report import measure_words, statistics
from compare.report.answered_rows import Losses
from compare.report.measures import Answer
from compare.report.rows import Row


@dataclass(frozen=True)
class Seen:
    """One variant over all rows and all plain sentences. `step`: training steps behind it, where known."""

    answers: tuple[Answer, ...]
    losses: Losses
    step: int | None = None

    @property
    def name(self) -> str:
        return self.answers[0].variant


MEASURES = {measure.name: attrgetter(measure.name) for measure in measure_words.MEASURES}
OFF_TOPIC_MEASURES = {name: attrgetter(name) for name in ("does_not_know", "ended", "loops", "mean_kl")}


def as_dict(figure: statistics.Figure | None) -> dict | None:
    return figure.as_dict() if figure else None


def measured(answers: Sequence[Answer], measures: dict, seed: int) -> dict:
    """Each measure's mean and interval over the answers that have it."""
    return {name: as_dict(statistics.mean([float(v) for a in answers if (v := of(a)) is not None], seed))
            for name, of in measures.items()}


def differences(base: Sequence[Answer], adapted: Sequence[Answer], seed: int) -> dict:
    """Each measure's adapted − base, paired by question; without those that need a base to exist."""
    found = {}
    for name, of in MEASURES.items():
        pairs = [(float(x), float(y)) for a, b in zip(base, adapted, strict=True)
                 if (x := of(a)) is not None and (y := of(b)) is not None]
        if pairs:
            before, after = zip(*pairs, strict=True)
            found[name] = as_dict(statistics.difference(before, after, seed))
    return found


def on_topic(rows: Sequence[Row], answers: Sequence[Answer], off: bool = False) -> list[Answer]:
    return [a for row, a in zip(rows, answers, strict=True) if row.off_topic == off]


def variant_figures(rows: Sequence[Row], seen: Seen, base: Seen, seed: int) -> dict:
    """All figures of one variant; those against base too, unless it is the base."""
    first, answers, others = seen.answers[0], on_topic(rows, seen.answers), on_topic(rows, base.answers)
    plain = {"perplexity": as_dict(statistics.perplexity(seen.losses.nats, seen.losses.tokens, seed))}
    found = {"name": first.variant, "adapter": first.adapter, "strength": first.strength, "step": seen.step,
             "measures": measured(answers, MEASURES, seed), "plain": plain,
             "off_topic": measured(on_topic(rows, seen.answers, off=True), OFF_TOPIC_MEASURES, seed)}
    if first.adapter is not None:
        nats = [a - b for a, b in zip(seen.losses.nats, base.losses.nats, strict=True)]
        plain["ratio"] = as_dict(statistics.perplexity(nats, base.losses.tokens, seed))
        found["difference"] = differences(others, answers, seed)
        found["mcnemar"] = statistics.mcnemar([a.right for a in others], [a.right for a in answers]).as_dict()
    return found


def flips(rows: Sequence[Row], base: Seen, adapted: Seen) -> dict:
    """Indexes of the rows whose right turned wrong or wrong right; off-topic rows have no right."""
    pairs = [(row.index, a.right, b.right) for row, a, b in zip(rows, base.answers, adapted.answers, strict=True)
             if not row.off_topic]
    return {"wrong_to_right": [i for i, before, after in pairs if after and not before],
            "right_to_wrong": [i for i, before, after in pairs if before and not after]}


def questions(rows: Sequence[Row], variants: Sequence[Seen]) -> list[dict]:
    """Every row with every variant's answer."""
    return [{**row.as_dict(), "answers": [asdict(seen.answers[i]) for seen in variants]}
            for i, row in enumerate(rows)]


def summarise(rows: Sequence[Row], variants: Sequence[Seen], checkpoints: Sequence[Seen], seed: int) -> dict:
    """The figures of report.json. `variants`: base, the adapter at strength 1, then other adapters and strengths;
    `checkpoints`: the adapter's earlier states at strength 1. The first two are the pair that is compared."""
    base, adapted = variants[:2]
    return {"variants": [variant_figures(rows, seen, base, seed) for seen in variants],
            "checkpoints": [variant_figures(rows, seen, base, seed)
                            for seen in sorted(checkpoints, key=lambda seen: seen.step or 0)],
            "flips": flips(rows, base, adapted), "questions": questions(rows, variants)}
