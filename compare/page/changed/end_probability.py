"""The probability of ending, token by token: how much each model wants to write `</s>` here.

One small plot an answer, as inline SVG that stretches with the page, its words and dots as HTML beside it, so that
they stay readable at any width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from compare.analysis.token_shift import Position, Shift
from compare.page.shared.words import both

SIDES = {"base": ("在原模型的回答上", "Over the base's answer"),
         "adapted": ("在适配后的回答上", "Over the adapted answer")}
MODELS = {"base": ("原模型", "base"), "adapted": ("适配后", "adapted")}
FLOOR = -6  # log10 of the smallest probability on the logarithmic scale
SCALES = {"linear": ("线性", "linear"), "log": ("对数", "logarithmic")}
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


def last_words(side: str, values: dict[str, Sequence[float]], stopped: bool) -> tuple[str, str]:
    """What to see in a plot, in both languages. `side`: whose answer it is."""
    zh, en = MODELS[side]
    if not stopped:
        most = percent(max(values[side]))
        return (f"没有停下：{zh}想停的概率最高只到 <b>{most}</b>。",
                f"It never stopped: its own model's wish to stop never rose above <b>{most}</b>.")
    other = next(model for model in MODELS if model != side)
    own, theirs = percent(values[side][-1]), percent(values[other][-1])
    return (f"到了末尾，{zh}以 <b>{own}</b> 的概率想停，{MODELS[other][0]}是 <b>{theirs}</b>。",
            f"At its end the {en} model wants to stop with <b>{own}</b>, "
            f"the {MODELS[other][1]} model with <b>{theirs}</b>.")


def plot(side: str, positions: Sequence[Position], end_id: int) -> str:
    """Both models' curves over one answer."""
    values = {model: [getattr(p, model).end_probability for p in positions] for model in MODELS}
    lines = "".join(f'<path class="{model} of-{scale}" d="{path(v, scale)}" vector-effect="non-scaling-stroke"/>'
                    for scale in SCALES for model, v in values.items())
    grid = "".join(f'<span class="of-{scale}" style="bottom:{height(value, scale):.4g}%">{label}</span>'
                   for scale, lines_of in GRID.items() for value, label in lines_of)
    dots = "".join(f'<i class="dot {model} of-{scale}" style="bottom:{height(v[-1], scale):.4g}%"></i>'
                   for scale in SCALES for model, v in values.items())
    zh, en = last_words(side, values, positions[-1].token_id == end_id)
    name = f"{SIDES[side][0]}的结束概率 · Probability of ending, {SIDES[side][1].lower()}"
    return (f'<figure class="plot" data-side="{side}" data-tokens="{len(positions)}">'
            f'<figcaption><b>{both(*SIDES[side])}</b><p>{both(zh, en)}</p></figcaption>'
            f'<div class="field"><div class="grid" aria-hidden="true">{grid}</div><div class="lines">'
            f'<svg viewBox="0 0 100 100" preserveAspectRatio="none" role="img" aria-label="{name}">{lines}</svg>'
            f'{dots}<i class="cursor"></i></div></div>'
            f'<p class="axis"><span>1</span>{both("第几个 token", "token")}<span>{len(positions)}</span></p></figure>')


def ending(shift: Shift, end_id: int) -> str:
    """The section with a plot for each answer that has tokens. `end_id`: of `</s>`."""
    plots = "".join(plot(side, positions, end_id) for side in SIDES if (positions := getattr(shift, side)))
    if not plots:
        return ""
    switch = "".join(f'<label><input type="radio" name="lens-scale" value="{scale}"{" checked" * (scale == "linear")}>'
                     f"{both(zh, en)}</label>" for scale, (zh, en) in SCALES.items())
    keys = "".join(f'<li><svg class="dash" viewBox="0 0 30 8" aria-hidden="true"><path class="{model}" d="M1 4H29"/>'
                   f"</svg> {both(zh, en)}</li>" for model, (zh, en) in MODELS.items())
    return (f'<section class="ending"><header><h2>{both("什么时候想停？", "When does it want to stop?")}</h2>'
            f'<p>{both(*WHAT)}</p></header><div class="keys"><fieldset class="steps">'
            f'<legend>{both("刻度", "Scale")}</legend>{switch}</fieldset><ul>{keys}</ul></div>'
            f'<div class="plots">{plots}</div></section>')


WHAT = ("写每个 token 之前，模型给结束符 <code>&lt;/s&gt;</code> 的概率。回答能停，靠的就是它在末尾升上去。",
        "Before each token: the probability a model gives the end token <code>&lt;/s&gt;</code>. "
        "An answer can only stop because it rises at the end.")
