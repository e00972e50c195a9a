"""The probability of ending, token by token: how much each model wants to stop here, as curves to draw."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from compare.analysis.token_shift import Position, Shift
from compare.page.shared.templates import draw

MODELS = ("base", "adapted")
FLOOR = -6  # log10 of the smallest probability on the logarithmic scale
GRID = {"linear": ((1.0, "100%"), (0.5, "50%"), (0.0, "0%")),
        "log": ((1.0, "100%"), (1e-2, "1%"), (1e-4, "0.01%"), (1e-6, "0.0001%"))}


def percent(share: float) -> str:
    """0 to 1 as a percentage of two significant digits: "38%", "0.039%", "<0.0001%"."""
    if 0 < share < 1e-6:
        return "<0.0001%"
    if share >= 0.0995:
        return f"{share:.0%}"
    return f"{float(f'{100 * share:.2g}'):.6f}".rstrip("0").rstrip(".") + "%"


def height(probability: float, scale: str) -> float:
    """0 (bottom) to 100 (top)."""
    if scale == "linear":
        return 100 * probability
    return 100 * (1 - max(FLOOR, math.log10(max(probability, 1e-12))) / FLOOR)


def across(index: int, total: int) -> float:
    """Where token `index` stands, 0 to 100."""
    return 50.0 if total == 1 else 100 * index / (total - 1)


def path(values: Sequence[float], scale: str) -> str:
    """The `d` of one model's line in a 100 × 100 box."""
    points = [f"{across(i, len(values)):.2f} {100 - height(v, scale):.2f}" for i, v in enumerate(values)]
    return "M" + "L".join(points) if len(points) > 1 else f"M0 {points[0].split()[1]}H100"


def plot(side: str, positions: Sequence[Position], end_id: int) -> dict[str, object]:
    """Both models' curves over one answer. `side`: whose answer it is; `own`: its own model's wish at the end, or the
    strongest where it never stopped."""
    values = {model: [getattr(p, model).end_probability for p in positions] for model in MODELS}
    stopped = positions[-1].token_id == end_id
    other = next(model for model in MODELS if model != side)
    lines = [{"model": model, "scale": scale, "path": path(v, scale), "last": height(v[-1], scale)}
             for scale in GRID for model, v in values.items()]
    return {"side": side, "tokens": len(positions), "stopped": stopped, "lines": lines,
            "own": percent(values[side][-1] if stopped else max(values[side])), "other": percent(values[other][-1])}


def draw_end_probability(shift: Shift, end_id: int, end: str = "</s>") -> Markup:
    """The section with a plot for each answer that has tokens. `end_id`, `end`: the end token and its text."""
    plots = [plot(side, positions, end_id) for side in MODELS if (positions := getattr(shift, side))]
    grid = [(scale, label, height(value, scale)) for scale, lines in GRID.items() for value, label in lines]
    return draw("changed/end_probability", "section", plots=plots, grid=grid, end=end) if plots else Markup()
