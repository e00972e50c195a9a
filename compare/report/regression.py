"""Is a new report as good as an old one? The gate that a team puts into its CI.

Compares the adapted model's share of right answers in two reports over the same questions.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from lens.errors import BadSetting

MARGIN = 0.02  # share of questions by which accuracy may drop


@dataclass(frozen=True)
class Verdict:
    """Did it pass, and why. `before`, `after`: shares of right answers."""

    passed: bool
    before: float
    after: float
    margin: float
    lost: tuple[str, ...]  # questions that were right before and are not now
    won: tuple[str, ...]

    def sentence(self) -> str:
        word = "passed" if self.passed else "failed"
        change = (self.after - self.before) * 100
        return (f"gate {word}: {self.after:.1%} right, before {self.before:.1%} ({change:+.1f} points, allowed "
                f"−{self.margin * 100:g}); {len(self.won)} questions won, {len(self.lost)} lost")


def read_report(directory: Path) -> dict:
    """The report.json of a directory. Raises BadSetting when there is none, or none that can be read."""
    path = directory / "report.json"
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        right_answers(report)
        return report
    except OSError as err:
        raise BadSetting("against-missing", path=directory, reason=err.strerror or err) from err
    except (ValueError, KeyError, TypeError, IndexError, RecursionError) as err:
        raise BadSetting("against-no-report", path=path, reason=repr(err)[:160]) from err


def right_answers(report: dict) -> dict[int, bool]:
    """Index of each on-topic question → was the adapted answer right?"""
    return {q["index"]: q["answers"][1]["right"] for q in report["questions"] if q["kind"] != "unknown"}


def asked(report: dict) -> list[tuple]:
    """What was asked and what counts as right, in a form that compares."""
    return [(q["instruction"], q["input"], q["output"], tuple(q["keywords"]), q["kind"]) for q in report["questions"]]


def gate(old: dict, new: dict, margin: float = MARGIN) -> Verdict:
    """Raises BadSetting when the two do not answer the same questions with answers of the same length."""
    if asked(old) != asked(new):
        sizes = [f"{len(report['questions'])} rows of {report['data']['name']}" for report in (old, new)]
        raise BadSetting("against-other-rows", old=sizes[0], new=sizes[1])
    if old["settings"]["max_new_tokens"] != new["settings"]["max_new_tokens"]:
        raise BadSetting("against-other-length", old=old["settings"]["max_new_tokens"],
                         new=new["settings"]["max_new_tokens"])
    before, after = right_answers(old), right_answers(new)
    texts = {q["index"]: q["input"] for q in new["questions"]}
    return Verdict(sum(before.values()) - sum(after.values()) <= margin * len(after) + 1e-9,
                   sum(before.values()) / len(before), sum(after.values()) / len(after), margin,
                   lost=tuple(texts[i] for i in after if before[i] and not after[i]),
                   won=tuple(texts[i] for i in after if after[i] and not before[i]))
