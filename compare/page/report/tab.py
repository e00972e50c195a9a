"""The Report tab: the held-out report as large figures, pictures, and every question with both answers.

Reads report.json as `python -m compare.evaluate` wrote it (compare/report/README.md has its fields).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import gradio as gr
from jinja2 import UndefinedError
from markupsafe import Markup

from compare.engine.interface import Engine
from compare.page.report.charts import cards, curves
from compare.page.report.reported_corpus import NAME, read_corpus
from compare.page.shared.column_list import first_adapter
from compare.page.shared.templates import draw, read, tab_piece
from lens.embedded import ASSETS
from lens.errors import BadRows

REPORT = ASSETS / "report" / "report.json"
FORMAT = 1  # of report.json, that this module reads
AT_ONCE = 30  # questions shown at first, and with every press on more
# What became of a question, in the order shown.
KINDS = {"wrong_to_right": "由错变对", "right_to_wrong": "由对变错", "right": "都对", "wrong": "都错",
         "off_topic": "题外"}
FIND = "搜索问题、回答、关键词 · Search"


def highlighted(text: str, keywords: list[str]) -> list[tuple[str, bool]]:
    """The text in parts, each with whether it is one of the keywords."""
    words = "|".join(map(re.escape, sorted(filter(None, keywords), key=len, reverse=True)))
    parts = re.split(f"({words})", text, flags=re.I) if words else [text]
    return [(part, i % 2 == 1) for i, part in enumerate(parts) if part]


@dataclass(frozen=True)
class Report:
    """report.json's dictionary, ready to draw. Raises KeyError and its like where fields are missing."""

    fields: dict

    @cached_property
    def kinds(self) -> dict[int, str]:
        """Index of a question → what became of it."""
        flips = {i: kind for kind in ("wrong_to_right", "right_to_wrong") for i in self.fields["flips"][kind]}
        return {q["index"]: flips.get(q["index"]) or
                ("off_topic" if q["kind"] == "unknown" else "right" if q["answers"][1]["right"] else "wrong")
                for q in self.fields["questions"]}

    @cached_property
    def questions(self) -> list[dict]:
        """Flips first."""
        order = list(KINDS)
        return sorted(self.fields["questions"], key=lambda q: (order.index(self.kinds[q["index"]]), q["index"]))

    def found(self, search: str, kind: str) -> list[dict]:
        """The questions of a kind ("all": any) in which every word of the search occurs."""
        words = search.casefold().split()
        return [q for q in self.questions if kind in ("all", self.kinds[q["index"]]) and
                all(word in self.text(q) for word in words)]

    @staticmethod
    def text(question: dict) -> str:
        """All that a search looks through."""
        return "\n".join([question["input"], question["output"], *question["keywords"],
                          *(a["text"] for a in question["answers"][:2])]).casefold()

    def head(self) -> Markup:
        """What was measured, the verdict in sentences, the large figures, the pictures, the slices."""
        return draw("report/view", "head", r=self.fields, cards=cards(self.fields), curves=curves(self.fields))

    def flips(self) -> Markup:
        """How many questions turned, each way, and how likely that is by chance."""
        return draw("report/view", "flips", test=self.fields["variants"][1]["mcnemar"])

    def row(self, q: dict) -> dict:
        """One question as its template takes it."""
        answers = [{**a, "parts": highlighted(a["text"], q["keywords"])} for a in q["answers"][:2]]
        return {**q, "answers": answers, "became": self.kinds[q["index"]],
                "reference": highlighted(q["output"], q["keywords"])}

    def table(self, search: str = "", kind: str = "all", shown: int = AT_ONCE) -> Markup:
        """The first `shown` of the questions found, each opening to both answers."""
        found = self.found(search, kind)
        return draw("report/view", "table", questions=[self.row(q) for q in found[:shown]], found=len(found),
                    shown=shown)


def read_report(path: Path) -> Report | None:
    """The report of a file; None where there is none. Raises BadRows saying what is wrong with it."""
    if not path.is_file():
        return None
    try:
        report = Report(json.loads(path.read_text(encoding="utf-8")))
        written = report.fields.get("format", FORMAT)
    except (ValueError, AttributeError, RecursionError) as err:
        raise BadRows("report-unreadable", file=path.name, reason=str(err)[:200]) from err
    if written != FORMAT:
        raise BadRows("report-format", file=path.name, format=repr(written)[:40], known=FORMAT)
    try:
        report.head(), report.flips(), report.table(shown=len(report.questions))  # every field is there
        return report
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, StopIteration, UndefinedError) as err:
        raise BadRows("report-unreadable", file=path.name, reason=repr(err)[:200]) from err


def notice(engine: Engine, sha: str) -> Markup:
    """A line where what was measured is not what is loaded."""
    adapter = first_adapter(engine)
    of_this = adapter.sha256 == sha if adapter else engine.facts.family == "bloom"
    return Markup() if of_this else draw("report/view", "other_adapter", sha=sha[:12])


def section(html: str, **kwargs) -> gr.HTML:
    return tab_piece("report", html, **kwargs)


def build(engine: Engine, path: Path = REPORT) -> None:
    """Lay the tab out inside the current Blocks: the report of a file, and what the one beside it says of a corpus."""
    section(draw("report/view", "heading"))
    try:
        report = read_report(path)
    except BadRows as err:
        section(draw("report/view", "broken", error=err))
        report = None
    if report is None:
        section(draw("report/view", "nothing"))
    else:
        build_report(engine, report)
    try:
        sha, drawn = read_corpus(path.with_name(NAME))
        section((notice(engine, sha) if sha else Markup()) + drawn)
    except BadRows as err:
        section(draw("report/view", "broken", error=err))


def build_report(engine: Engine, report: Report) -> None:
    section(notice(engine, str(report.fields["adapter"]["sha256"])) + report.head())
    section(report.flips())
    with gr.Row(elem_id="reported-find"):
        search = gr.Textbox("", placeholder=FIND, show_label=False, label=FIND, container=False, max_length=200,
                            scale=1, min_width=240, elem_id="reported-search")
        kind = gr.Radio([("全部问题", "all"), *((zh, kind) for kind, zh in KINDS.items())], value="all",
                        show_label=False, label="哪些问题", container=False, scale=2, elem_id="reported-kind")
    table = section(report.table(), js_on_load=read("report/tab.js"), elem_id="reported-table")

    def more(search: str, kind: str, event: gr.EventData) -> str:
        return report.table(search, kind, int(event.shown) + AT_ONCE)

    quiet = {"api_visibility": "private", "show_progress": "hidden", "queue": False}
    gr.on([search.change, kind.change], report.table, [search, kind], table, trigger_mode="always_last", **quiet)
    table.more(more, [search, kind], table, **quiet)
