"""The report's curves as PNG pictures, light for files, light and dark for the page. matplotlib; no model.

Labels are English, so that no picture depends on a font with Chinese characters.
"""

from __future__ import annotations

import io
from dataclasses import dataclass


@dataclass(frozen=True)
class Theme:
    """Colours of a picture: ground, text, lines of the frame, and of base and adapted."""

    ground: str
    text: str
    line: str
    base: str
    adapted: str


LIGHT = Theme("#ffffff", "#1d2130", "#d9dce6", "#8a90a2", "#4f46e5")
DARK = Theme("#171a26", "#e8eaf2", "#343a4e", "#8f97ad", "#9a94ff")


@dataclass(frozen=True)
class Panel:
    """One small picture of a row: what is drawn, as a share or as a number."""

    title: str
    section: str
    measure: str
    share: bool


PANELS = (Panel("right answers", "measures", "right", True), Panel("answers in a loop", "measures", "loops", True),
          Panel("perplexity of plain text", "plain", "perplexity", False))


def strength_points(report: dict) -> list[tuple[float, dict]]:
    """(strength, figures) of the adapter, the base at 0; none when only strength 1 was asked for."""
    variants = [v for v in report["variants"] if v["adapter"] in (None, report["adapter"]["name"])]
    return sorted(((v["strength"], v) for v in variants), key=lambda p: p[0]) if len(variants) > 2 else []


def step_points(report: dict) -> list[tuple[float, dict]]:
    """(step, figures) of base, checkpoints and, where its step is known, the adapter itself."""
    if not report["checkpoints"]:
        return []
    steps = {v["step"]: v for v in [report["variants"][1], *report["checkpoints"]] if v["step"] is not None}
    return sorted({0: report["variants"][0], **steps}.items())


def figure_bytes(fig) -> bytes:
    out = io.BytesIO()
    fig.savefig(out, format="png", dpi=144, metadata={"Software": None})  # the same bytes for the same figures
    return out.getvalue()


def dress(axis, theme: Theme, title: str, share: bool, xlabel: str = "") -> None:
    """One panel's frame, labels and colours."""
    axis.set_title(title, color=theme.text, fontsize=11, loc="left")
    axis.set_facecolor(theme.ground)
    axis.tick_params(colors=theme.text, labelsize=9)
    axis.grid(axis="y", color=theme.line, linewidth=0.7)
    axis.set_axisbelow(True)
    axis.set_xlabel(xlabel, color=theme.text, fontsize=9)
    for side, spine in axis.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(theme.line)
    if share:
        axis.set_ylim(0, 1.02)
        axis.set_yticks([0, 0.25, 0.5, 0.75, 1])
        axis.yaxis.set_major_formatter(lambda y, _: f"{y:.0%}")
    else:
        axis.set_ylim(bottom=0)


def panels(theme: Theme):
    """A figure with one axis a panel."""
    from matplotlib.figure import Figure

    fig = Figure(figsize=(10, 2.9), facecolor=theme.ground, layout="constrained")
    return fig, fig.subplots(1, len(PANELS))


def curve(points: list[tuple[float, dict]], xlabel: str, theme: Theme) -> bytes:
    """PNG bytes: each panel's measure against x, its 95% interval shaded, the base as a dashed line."""
    fig, axes = panels(theme)
    base = next(v for _, v in points if v["adapter"] is None)
    for axis, panel in zip(axes, PANELS, strict=True):
        figures = [v[panel.section][panel.measure] for _, v in points]
        x = [at for at, _ in points]
        axis.axhline(base[panel.section][panel.measure]["value"], color=theme.base, linestyle="--", linewidth=1.2)
        axis.fill_between(x, [f["low"] for f in figures], [f["high"] for f in figures], color=theme.adapted,
                          alpha=0.18, linewidth=0)
        axis.plot(x, [f["value"] for f in figures], color=theme.adapted, marker="o", markersize=4, linewidth=1.8)
        dress(axis, theme, panel.title, panel.share, xlabel)
    return figure_bytes(fig)


def pair(report: dict, theme: Theme) -> bytes:
    """PNG bytes: base beside adapted in each panel, with 95% intervals."""
    fig, axes = panels(theme)
    base, adapted = report["variants"][:2]
    for axis, panel in zip(axes, PANELS, strict=True):
        for at, variant, colour in ((0, base, theme.base), (1, adapted, theme.adapted)):
            f = variant[panel.section][panel.measure]
            axis.bar(at, f["value"], width=0.62, color=colour)
            axis.errorbar(at, f["value"], [[max(0.0, f["value"] - f["low"])], [max(0.0, f["high"] - f["value"])]],
                          color=theme.text, capsize=4, linewidth=1.1)
            label = f"{f['value']:.1%}" if panel.share else f"{f['value']:.1f}"
            axis.annotate(label, (at, max(f["value"], f["high"])), (0, 4), textcoords="offset points", ha="center",
                          color=theme.text, fontsize=9)
        dress(axis, theme, panel.title, panel.share)
        axis.set_xticks([0, 1], ["base", "adapted"])
        axis.set_ylim(top=1.14 if panel.share else axis.get_ylim()[1] * 1.08)
    return figure_bytes(fig)


def pictures(report: dict, theme: Theme = LIGHT) -> dict[str, bytes]:
    """Name without ending → PNG bytes: `pair` always, `strengths` and `checkpoints` where there are such points."""
    drawn = {"pair": pair(report, theme)}
    if points := strength_points(report):
        drawn["strengths"] = curve(points, "strength of the adapter", theme)
    if points := step_points(report):
        drawn["checkpoints"] = curve(points, "training steps", theme)
    return drawn
