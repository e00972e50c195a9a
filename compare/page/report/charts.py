"""The report's figures as small pictures, from report.json's dictionaries: cards with intervals, and curves over
strengths and steps."""

from __future__ import annotations

from collections.abc import Sequence

from compare.report.measure_words import BIG, NAMED, Measure, direction
from compare.report.pictures import step_points, strength_points

PERPLEXITY = Measure("perplexity", "perplexity of plain text", "普通文本的困惑度", "", ".1f", -1)
PANELS = (("measures", NAMED["right"]), ("measures", NAMED["loops"]), ("plain", PERPLEXITY))
TOP = 8  # per cent of a panel's height that stay free above


def change(measure: Measure, figure: dict) -> tuple[str, str]:
    """A paired difference in words: points for shares, else a plain number."""
    if measure.form.endswith("%"):
        value = f"{figure['value'] * 100:+.1f}"
        return f"{value} 个百分点", f"{value} points"
    value = f"{figure['value']:+{measure.form}}"
    return value, value


def card(measure: Measure, figures: dict[str, dict], level: str, moved: tuple[str, str], whole: float) -> dict:
    """One headline figure. `figures`: by side; `whole`: what a full bar is."""
    bars = {side: {"width": 100 * f["value"] / whole, "low": 100 * f["low"] / whole, "high": 100 * f["high"] / whole,
                   "label": measure.value(f)} for side, f in figures.items()}
    return {"zh": measure.chinese, "en": measure.title, "value": measure.value(figures["adapted"]), "bars": bars,
            "interval": measure.interval(figures["adapted"]), "level": level, "change": moved}


def cards(report: dict) -> list[dict]:
    """Right, ended, loops, perplexity."""
    base, adapted = report["variants"][:2]
    found = []
    for measure in BIG:
        difference = adapted["difference"][measure.name]
        figures = {"base": base["measures"][measure.name], "adapted": adapted["measures"][measure.name]}
        found.append(card(measure, figures, direction(difference, measure.better), change(measure, difference), 1.0))
    plain = {"base": base["plain"]["perplexity"], "adapted": adapted["plain"]["perplexity"]}
    times = f"× {adapted['plain']['ratio']['value']:.2f}"
    found.append(card(PERPLEXITY, plain, report["verdict"]["forgetting"]["level"], (times, times),
                      max(figure["high"] for figure in plain.values())))
    return found


def panel(points: Sequence[tuple[float, dict]], section: str, measure: Measure, adapted: dict) -> dict:
    """One measure over equally spaced points; those without the figure are left out."""
    last = max(len(points) - 1, 1)
    known = [(100 * i / last, f"{at:g}", v[section][measure.name]) for i, (at, v) in enumerate(points)
             if v[section].get(measure.name)]
    whole = 1.0 if measure.form.endswith("%") else max(f["high"] for _, _, f in known)

    def y(value: float) -> float:
        return 100 - (100 - TOP) * value / whole

    def path(name: str) -> list[str]:
        return [f"{x:.2f},{y(f[name]):.2f}" for x, _, f in known]

    base = next(v[section][measure.name]["value"] for _, v in points if v["adapter"] is None)
    return {"zh": measure.chinese, "en": measure.title, "first": measure.value(known[0][2]),
            "last": measure.value(adapted[section][measure.name]), "base": y(base), "line": " ".join(path("value")),
            "band": " ".join([*path("high"), *reversed(path("low"))]),
            "dots": [{"x": x, "y": y(f["value"]), "label": label, "value": measure.value(f),
                      "interval": measure.interval(f)} for x, label, f in known]}


def curves(report: dict) -> list[tuple[str, str, list[dict]]]:
    """A row of panels for training steps and one for strengths, where the report has such points."""
    return [(zh, en, [panel(points, section, measure, report["variants"][1]) for section, measure in PANELS])
            for points, zh, en in ((step_points(report), "训练步数", "Training steps"),
                                   (strength_points(report), "适配器强度", "Strength of the adapter")) if points]
