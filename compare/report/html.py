"""report.html: the report as one page that loads nothing. Reads report.json's dictionary.

The template escapes all text (jinja2's autoescape); pictures are data URIs, in a light and a dark version.
"""

from __future__ import annotations

import base64
from pathlib import Path

from compare.report.pictures import DARK, LIGHT, pictures
from compare.report.verdict import direction
from compare.report.words import MEASURES, Measure

TEMPLATE = Path(__file__).parent / "report.html.jinja"
SHOWN_OPEN, FLIPS_SHOWN, QUESTIONS_SHOWN = 5, 100, 400  # the rest is in report.json
BIG = ("right", "ended", "loops")
CURVES = {"strengths": "Strengths 强度", "checkpoints": "Checkpoints 训练步数"}


def data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()


def bar(figure: dict) -> dict:
    """A share's place on a bar of 100: value, and where its interval lies."""
    return {"value": 100 * figure["value"], "low": 100 * figure["low"], "width": 100 * (figure["high"] - figure["low"])}


def card(report: dict, measure: Measure) -> dict:
    """One of the big figures."""
    figures = [v["measures"][measure.name] for v in report["variants"][:2]]
    change = report["variants"][1]["difference"][measure.name]
    level = direction(change, measure.better)
    rows = [{"who": who, "value": measure.value(f), "interval": measure.interval(f), "bar": bar(f)}
            for who, f in zip(("adapted", "base"), figures[::-1], strict=True)]
    return {"title": measure.title, "chinese": measure.chinese, "explained": measure.explained, "rows": rows,
            "level": level, "change": measure.change(change)}


def measure_rows(report: dict) -> list[dict]:
    base, adapted = report["variants"][:2]
    return [{"measure": m, "base": base["measures"][m.name], "adapted": adapted["measures"][m.name],
             "change": adapted["difference"].get(m.name)} for m in MEASURES if adapted["measures"][m.name]]


def curves(report: dict) -> list[dict]:
    dark = pictures(report, DARK)
    return [{"title": CURVES[name], "light": data_uri(png), "dark": data_uri(dark[name])}
            for name, png in pictures(report, LIGHT).items() if name in CURVES]


def html(report: dict) -> str:
    """The whole page."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(loader=FileSystemLoader(TEMPLATE.parent), autoescape=True, undefined=StrictUndefined,
                              trim_blocks=True, lstrip_blocks=True)
    by_index = {q["index"]: q for q in report["questions"]}
    flips = [{"title": title, "chinese": chinese, "kind": kind, "count": len(report["flips"][kind]),
              "questions": [by_index[i] for i in report["flips"][kind][:FLIPS_SHOWN]]}
             for kind, title, chinese in (("wrong_to_right", "Wrong → right", "由错变对"),
                                          ("right_to_wrong", "Right → wrong", "由对变错"))]
    big = [m for name in BIG for m in MEASURES if m.name == name]
    return environment.get_template(TEMPLATE.name).render(
        report=report, base=report["variants"][0], adapted=report["variants"][1], flips=flips,
        cards=[card(report, m) for m in big], measures=measure_rows(report), curves=curves(report),
        others=[*report["variants"][2:], *report["checkpoints"]], right=big[0],
        off_topic=[q for q in report["questions"] if q["kind"] == "unknown"],
        questions=report["questions"][:QUESTIONS_SHOWN], shown_open=SHOWN_OPEN)
