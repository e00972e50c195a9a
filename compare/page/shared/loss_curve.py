"""A training's loss as a curve: read from `training.json`, averaged, and laid on a logarithmic scale."""

from __future__ import annotations

import json
import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from compare.page.shared.templates import as_json, draw

WINDOW = 5  # logged losses that one point of the drawn curve averages
TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20)
MARGIN = 0.06  # of the height, free above and below the curve


@dataclass(frozen=True)
class Loss:
    """The loss logged at a step, nats a token."""

    step: int
    loss: float


def read_losses(adapter: Path) -> tuple[Loss, ...]:
    """What an adapter directory's `training.json` logged, by rising step; empty where it says nothing."""
    try:
        logged = json.loads((adapter / "training.json").read_text(encoding="utf-8"))["losses"]
        found = [Loss(int(entry["step"]), float(entry["loss"])) for entry in logged]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ()
    by_step = {loss.step: loss for loss in found if math.isfinite(loss.loss) and loss.loss > 0 and loss.step > 0}
    return tuple(by_step[step] for step in sorted(by_step))


def smoothed(losses: Sequence[Loss]) -> list[Loss]:
    """Each loss as the mean of its neighbours, `WINDOW` of them where there are as many."""
    half = WINDOW // 2
    near = [losses[max(0, i - half):i + half + 1] for i in range(len(losses))]
    return [Loss(at.step, sum(n.loss for n in some) / len(some)) for at, some in zip(losses, near, strict=True)]


def position(step: float, steps: Sequence[int]) -> float:
    """Where a step stands among the checkpoints: 1.5 is half way from steps[1] to steps[2]."""
    i = min(max(bisect_right(steps, step) - 1, 0), len(steps) - 2)
    return min(max(i + (step - steps[i]) / (steps[i + 1] - steps[i]), 0.0), len(steps) - 1.0)


@dataclass(frozen=True)
class Scale:
    """Loss → per cent from the top, logarithmic."""

    low: float
    high: float

    @classmethod
    def of(cls, losses: Sequence[Loss]) -> Scale:
        values = [loss.loss for loss in losses]
        return cls(min(values), max(max(values), min(values) * 1.01))

    def top(self, loss: float) -> float:
        share = math.log(self.high / loss) / math.log(self.high / self.low)
        return 100 * (MARGIN + (1 - 2 * MARGIN) * share)


def draw_curve(losses: Sequence[Loss], across: Callable[[float], float], lines: Sequence[int],
               points: bool = False) -> Markup:
    """Raw losses faint, their running mean bold, a line at each of the steps `lines`, a marker at the end.

    `across`: step → per cent from the left. `points`: for timeline/tab.js, which moves the marker: `data-points` then has
    the bold curve as [place among the lines, per cent from the top, loss].
    """
    if len(losses) < 2:
        return draw("shared/loss_curve", "plot", lines=[across(step) for step in lines], ticks=(), raw="", mean="",
                    marker=None, attributes={"points": "[]"} if points else {})
    scale, mean = Scale.of(losses), smoothed(losses)

    def path(some: Sequence[Loss]) -> str:
        return " ".join(f"{across(p.step):.2f},{scale.top(p.loss):.2f}" for p in some)

    found = [[round(across(p.step) / 100 * (len(lines) - 1), 3), round(scale.top(p.loss), 2), round(p.loss, 3)]
             for p in mean]
    last = mean[-1]
    return draw("shared/loss_curve", "plot", lines=[across(step) for step in lines], raw=path(losses), mean=path(mean),
                ticks=[(f"{t:g}", scale.top(t)) for t in TICKS if scale.low <= t <= scale.high],
                marker=(100 if points else across(last.step), scale.top(last.loss)), rule=points,
                attributes={"points": as_json(found)} if points else {"losses": len(losses)})
