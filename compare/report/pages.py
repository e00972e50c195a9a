"""report.html, one page that loads nothing, and report.md, for a terminal, a pull request or a model card.

Both are templates beside this file over report.json's dictionary. Text of rows, models and files is made visible
(`lens.terminal_text`) wherever it is put in; the page escapes it (jinja2's autoescape), in Markdown the filter `plain`
keeps it from becoming a table, a link or HTML. Pictures in the page are data URIs, in a light and a dark version.
"""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

from compare.report.measure_words import BIG, MEASURES, NAMED, Measure, direction
from compare.report.pictures import DARK, LIGHT, pictures, strength_points
from lens.terminal_text import visible

SHOWN_OPEN, FLIPS_SHOWN, QUESTIONS_SHOWN = 5, 100, 400  # of the page; the rest is in report.json
LINES_SHOWN, TEXT_SHOWN = 20, 160  # of the Markdown: questions of each kind, characters of an answer
CURVES = {"strengths": "Strengths 强度", "checkpoints": "Checkpoints 训练步数"}


def plain(text: str, longest: int = TEXT_SHOWN) -> str:
    """Text as one safe line of a Markdown table."""
    line = visible(" ".join(text.split()))
    line = line if len(line) <= longest else line[:longest] + "…"
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]()#+!|~$])", r"\\\1", line) or "–"


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


def filled(template: Path, **values: Any) -> str:
    """A template's text, of Markdown or, where its name says so, of an escaped page."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    page = template.name.endswith(".html.jinja")
    environment = Environment(loader=FileSystemLoader(template.parent), autoescape=page, trim_blocks=True,
                              lstrip_blocks=True, undefined=StrictUndefined, keep_trailing_newline=not page,
                              finalize=lambda value: visible(value) if type(value) is str else value)
    environment.filters["plain"] = plain
    return environment.get_template(template.name).render(**values)


def rendered(name: str, report: dict, **more: Any) -> str:
    """A template over the report."""
    by_index = {q["index"]: q for q in report["questions"]}
    flips = [{"title": title, "chinese": chinese, "kind": kind, "count": len(report["flips"][kind]),
              "questions": [by_index[i] for i in report["flips"][kind][:FLIPS_SHOWN]]}
             for kind, title, chinese in (("wrong_to_right", "Wrong → right", "由错变对"),
                                          ("right_to_wrong", "Right → wrong", "由对变错"))]
    return filled(
        Path(__file__).with_name(name), report=report, base=report["variants"][0], adapted=report["variants"][1],
        flips=flips, measures=measure_rows(report), right=NAMED["right"],
        off_topic=[q for q in report["questions"] if q["kind"] == "unknown"], **more)


def html(report: dict) -> str:
    """The whole page."""
    return rendered("report.html.jinja", report, cards=[card(report, m) for m in BIG], curves=curves(report),
                    others=[*report["variants"][2:], *report["checkpoints"]], shown_open=SHOWN_OPEN,
                    questions=report["questions"][:QUESTIONS_SHOWN])


def markdown(report: dict) -> str:
    """The same in Markdown."""
    return rendered("report.md.jinja", report, shown=LINES_SHOWN, strengths=bool(strength_points(report)))
