"""A training's loss as a curve under its checkpoints: inline SVG that stretches, with labels and marker as HTML.

Reads `training.json`; knows no engine and no component. Across, every gap between two checkpoints is equally wide;
upwards the loss is on a logarithmic scale.
"""

from __future__ import annotations

import json
import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from compare.page.shared.words import both

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


def curves(scale: Scale, raw: str, mean: str) -> str:
    """The losses' ticks and two lines, each given as an SVG polyline's points in percent."""
    ticks = "".join(f'<span class="tick" style="top:{scale.top(t):.2f}%">{t:g}</span>'
                    for t in TICKS if scale.low <= t <= scale.high)
    return (f'{ticks}<svg viewBox="0 0 100 100" preserveAspectRatio="none" role="img" '
            f'aria-label="训练损失 Training loss">'
            f'<polyline class="raw" points="{raw}"/><polyline class="mean" points="{mean}"/></svg>')


def curve(losses: Sequence[Loss], steps: Sequence[int]) -> str:
    """The plot: raw losses faint, their running mean bold, a line a checkpoint, and the marker that timeline.js moves.

    `data-points` holds the bold curve as [position among the checkpoints, per cent from the top, loss].
    """
    inside = [loss for loss in losses if loss.step <= steps[-1]]
    last = len(steps) - 1
    lines = "".join(f'<i class="line" style="left:{100 * i / last:.2f}%"></i>' for i in range(last + 1))
    if len(inside) < 2:
        none = both("没有记录损失", "no loss was logged")
        return f'<div class="plot" data-points="[]">{lines}<p class="fine none">{none}</p></div>'
    scale, mean = Scale.of(inside), smoothed(inside)

    def path(points: Sequence[Loss]) -> str:
        return " ".join(f"{100 * position(p.step, steps) / last:.2f},{scale.top(p.loss):.2f}" for p in points)

    points = [[round(position(p.step, steps), 3), round(scale.top(p.loss), 2), round(p.loss, 3)] for p in mean]
    return (f'<div class="plot" data-points="{json.dumps(points, separators=(",", ":"))}">{lines}'
            f'{curves(scale, path(inside), path(mean))}<i class="rule" style="left:100%"></i>'
            f'<i class="marker" style="left:100%;top:{points[-1][1]}%"></i></div>')
