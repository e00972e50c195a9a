"""The report's figures as small pictures: cards with intervals, and curves over strengths and steps.

HTML and inline SVG from report.json's dictionaries, coloured by reported.css, so that they follow the page's theme
and language.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from compare.page.shared.words import both
from compare.report.pictures import step_points, strength_points
from compare.report.words import MEASURES, Measure, direction

BIG = ("right", "ended", "loops")
PERPLEXITY = Measure("perplexity", "perplexity of plain text", "普通文本的困惑度", "", ".1f", -1)
NAMED = {measure.name: measure for measure in MEASURES}
PANELS = (("measures", NAMED["right"]), ("measures", NAMED["loops"]), ("plain", PERPLEXITY))
TOP = 8  # per cent of a panel's height that stay free above


def chip(level: str, zh: str, en: str) -> str:
    return f'<span class="chip" data-level="{level}">{both(zh, en)}</span>'


def change(measure: Measure, figure: dict) -> str:
    """A paired difference in words: points for shares, else a plain number."""
    if measure.form.endswith("%"):
        value = f"{figure['value'] * 100:+.1f}"
        return chip(direction(figure, measure.better), f"{value} 个百分点", f"{value} points")
    return chip(direction(figure, measure.better), *[f"{figure['value']:+{measure.form}}"] * 2)


def bars(measure: Measure, base: dict, adapted: dict, whole: float) -> str:
    """Base and adapted as bars of `whole`, each with its interval."""
    rows = []
    for side, name, figure in (("adapted", both("适配后", "adapted"), adapted), ("base", both("原模型", "base"), base)):
        low, high = 100 * figure["low"] / whole, 100 * figure["high"] / whole
        rows.append(f'<div class="row" data-side="{side}"><span>{name}</span><div class="bar"><i style="width:'
                    f'{100 * figure["value"] / whole:.2f}%"></i><b style="left:{low:.2f}%;width:{high - low:.2f}%"></b>'
                    f"</div><span>{measure.value(figure)}</span></div>")
    return "".join(rows)


def card(measure: Measure, base: dict, adapted: dict, moved: str, whole: float) -> str:
    """One headline figure: large, with its interval, and the base's under it."""
    return (f'<article class="card"><h3>{both(escape(measure.chinese), escape(measure.title))}</h3>'
            f'<p><strong>{measure.value(adapted)}</strong> {moved}</p>'
            f'<p class="fine">95%: {measure.interval(adapted)}</p>{bars(measure, base, adapted, whole)}</article>')


def cards(report: dict) -> str:
    """Right, ended, loops, perplexity."""
    base, adapted = report["variants"][:2]
    found = [card(NAMED[name], base["measures"][name], adapted["measures"][name],
                  change(NAMED[name], adapted["difference"][name]), 1.0) for name in BIG]
    before, after, ratio = base["plain"]["perplexity"], adapted["plain"]["perplexity"], adapted["plain"]["ratio"]
    times = chip(report["verdict"]["forgetting"]["level"], *[f"× {ratio['value']:.2f}"] * 2)
    found.append(card(PERPLEXITY, before, after, times, max(before["high"], after["high"])))
    return f'<div class="cards">{"".join(found)}</div>'


@dataclass(frozen=True)
class Point:
    """A figure at a place across (per cent) with the label under it."""

    x: float
    label: str
    figure: dict


def places(points: Sequence[tuple[float, dict]], section: str, measure: Measure) -> list[Point]:
    """Points equally wide apart; those without the figure are left out."""
    last = max(len(points) - 1, 1)
    return [Point(100 * i / last, f"{at:g}", v[section][measure.name]) for i, (at, v) in enumerate(points)
            if v[section].get(measure.name)]


def panel(points: Sequence[tuple[float, dict]], section: str, measure: Measure, adapted: dict) -> str:
    """One measure as a curve with its interval shaded and the base as a dashed line; over it base → adapted."""
    known = places(points, section, measure)
    whole = 1.0 if measure.form.endswith("%") else max(p.figure["high"] for p in known)

    def y(value: float) -> float:
        return 100 - (100 - TOP) * value / whole

    line = " ".join(f"{p.x:.2f},{y(p.figure['value']):.2f}" for p in known)
    band = " ".join([*(f"{p.x:.2f},{y(p.figure['high']):.2f}" for p in known),
                     *(f"{p.x:.2f},{y(p.figure['low']):.2f}" for p in reversed(known))])
    base = next(v[section][measure.name]["value"] for _, v in points if v["adapter"] is None)
    dots = "".join(f'<i class="dot" style="left:{p.x:.2f}%;top:{y(p.figure["value"]):.2f}%" '
                   f'title="{p.label}: {measure.value(p.figure)} ({measure.interval(p.figure)})"></i>' for p in known)
    labels = "".join(f'<span style="left:{p.x:.2f}%">{p.label}</span>' for p in known)
    ends = f"<em>{measure.value(known[0].figure)}</em><em>{measure.value(adapted[section][measure.name])}</em>"
    return (f'<figure><figcaption>{both(escape(measure.chinese), escape(measure.title))}'
            f'<span class="ends">{ends}</span></figcaption><div class="plot">'
            f'<svg viewBox="0 0 100 100" preserveAspectRatio="none" aria-hidden="true">'
            f'<polygon points="{band}"/><line x1="0" x2="100" y1="{y(base):.2f}" y2="{y(base):.2f}"/>'
            f'<polyline points="{line}"/></svg>{dots}</div><div class="scale">{labels}</div></figure>')


def curves(report: dict) -> str:
    """A row of panels for strengths and one for training steps, where the report has such points."""
    found = []
    for points, zh, en in ((step_points(report), "训练步数", "Training steps"),
                           (strength_points(report), "适配器强度", "Strength of the adapter")):
        if points:
            drawn = "".join(panel(points, section, measure, report["variants"][1]) for section, measure in PANELS)
            key = both("阴影是 95% 区间，虚线是原模型", "shaded: 95% interval; dashed: base")
            found.append(f'<h3 class="part">{both(zh, en)} <small>{key}</small></h3><div class="panels">{drawn}</div>')
    return "".join(found)
