"""What a training would learn from some rows, before it does: counts, checks, a histogram of tokens, the first rows.

A child process reads and encodes them (`python -m train.check`), the very code that trains; this module starts it and
draws what it says.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from compare.page.shared.templates import draw
from compare.server.trainings.job import Plan, last_line, start
from lens.errors import BadRows, Sentence

PATIENCE = 180  # seconds that reading the rows may take
BARS = 24  # of the histogram, at most


@dataclass(frozen=True)
class Preview:
    """The object of `python -m train.check`; `lengths`: tokens a row → rows."""

    rows: int
    skipped: int
    refusals: int
    duplicates: int
    cut: int
    max_length: int
    lengths: dict[str, int]
    read: str
    learnt: str
    examples: Sequence[dict[str, str]]
    notes: Sequence[dict[str, str]] = ()


@dataclass(frozen=True)
class Bar:
    """So many rows have `low` to `high` tokens, both included; `high` is None for all that are longer."""

    low: int
    high: int | None
    rows: int


def look(plan: Plan) -> Preview:
    """What this plan's rows would teach. Raises BadRows with the sentence of what is wrong with them."""
    command = plan.command("train.check", Path())
    child = start(command, plan.threads, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        out, err = child.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        child.kill()
        child.communicate()
        raise BadRows("rows-take-too-long", seconds=PATIENCE) from None
    try:
        found = json.loads(out)
    except ValueError:  # it broke down, or was ended
        raise BadRows("rows-unusable", said=last_line(err)) from None
    if "error" in found:
        raise refused(found["error"], plan)
    return Preview(**{**found, "notes": [shown(note, plan) for note in found["notes"]]})


class Heard(Sentence):
    """What another process said, in both languages."""

    def __init__(self, told: Mapping[str, str], plan: Plan):
        told = shown(told, plan)
        self.code, self.values, self.words = told["code"], {}, {"en": told["message"], "zh": told["message_zh"]}

    def said(self, language: str) -> str:
        return self.words[language]


def shown(told: Mapping[str, str], plan: Plan) -> dict[str, str]:
    """A told sentence with the uploaded file's own name in place of where it lies on this machine."""
    return {name: text.replace(plan.file, plan.rows) if plan.file else text for name, text in told.items()}


def refused(error: Mapping, plan: Plan) -> BadRows:
    """Why the rows cannot be used, with the step that helps as the tab offers it."""
    then = error["next"] or {"code": ""}
    said = Heard({name: error[name] for name in ("code", "message", "message_zh")}, plan)
    if then["code"] == "next-skip":
        return BadRows("bad-row", said=said)
    if then["code"] == "next-columns":
        return BadRows("rows-columns", said=said, then=Heard(then, plan))
    return BadRows("rows-unusable", said=said)


def bars(lengths: dict[str, int], max_length: int) -> list[Bar]:
    """The histogram: equal bars, the last of them for all beyond twice `max_length`."""
    counts = {int(length): rows for length, rows in lengths.items()}
    top = min(max(counts), 2 * max_length)
    width = max(1, -(-top // BARS))
    found = []
    for low in range(1 if width == 1 else 0, top + 1, width):
        last = low + width > top and max(counts) > top
        high = None if last else low + width - 1
        found.append(Bar(low, high, sum(n for length, n in counts.items()
                                        if low <= length and (high is None or length <= high))))
    return found


def draw_preview(preview: Preview, command: str = "") -> Markup:
    """All of it; the bars of rows that are cut have another colour. `command`: the one that trains the same."""
    found, tokens = bars(preview.lengths, preview.max_length), sorted(map(int, preview.lengths))
    most = max(bar.rows for bar in found)
    drawn = [(max(100 * bar.rows / most, 1.5 if bar.rows else 0), bar.low > preview.max_length,
              f"{bar.low}–{bar.high or '…'} token: {bar.rows:,}") for bar in found]
    return draw("training/preview", "preview", p=preview, command=command, bars=drawn, first=found[0].low,
                shortest=tokens[0], longest=tokens[-1])
