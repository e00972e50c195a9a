"""The Report tab: the held-out report as large figures, pictures, and every question with both answers.

Reads report.json as `python -m compare.evaluate` wrote it (compare/report/README.md has its fields); knows no torch
and asks the engine only which adapter is loaded. All text of models and rows is escaped.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cached_property, partial
from html import escape
from pathlib import Path

import gradio as gr

from compare.page.report.charts import cards, chip, curves
from compare.page.shared.html import own, read
from compare.page.shared.words import both, heading
from lens.embedded import ASSETS

section = partial(own, css_template=read("shared/tab.css", "report/tab.css"), 
                  elem_classes=["lens-own", "lens-reported"])
REPORT = ASSETS / "report" / "report.json"
FORMAT = 1  # of report.json, that this module reads
COMMAND = "python -m compare.evaluate --output assets/report"
AT_ONCE = 30  # questions shown at first, and with every press on more

# What became of a question, in the order shown: its sign and its words.
KINDS = {"wrong_to_right": ("✗→✓", "由错变对", "wrong → right"), "right_to_wrong": ("✓→✗", "由对变错", "right → wrong"),
         "right": ("✓✓", "都对", "both right"), "wrong": ("✗✗", "都错", "both wrong"),
         "off_topic": ("?", "题外", "off topic")}
CHOICES = [("全部问题", "all"), *((zh, kind) for kind, (_, zh, _) in KINDS.items())]
FIND = "搜索问题、回答、关键词 · Search"
LABELS = {"报告": "Report", "全部问题": "All questions",
          "哪些问题": "Which questions", **{zh: en for _, zh, en in KINDS.values()}}
ENDED = {"stop": ("自己结束", "ended by itself"), "length": ("到上限截断", "cut at the limit"),
         "loop": ("停在循环里", "stopped in its loop"), "cancelled": ("被停止", "stopped")}
SIDES = (("base", "原模型", "Base"), ("adapted", "适配后", "Adapted"))
HEADS = (("变化", "Change"), ("问题", "Question"), *(side[1:] for side in SIDES))
NOTHING = ("这里还没有报告。运行下面的命令（几分钟），再重新打开页面程序。",
           "There is no report here yet. Run this command (it takes minutes), then start the page again.")
BROKEN = ("报告读不了：{}。请重新生成。", "The report cannot be read: {}. Write it again.")
OTHER = ("这份报告测的是另一个适配器（sha256 {}），不是现在加载的这个。",
         "This report is of another adapter (sha256 {}) than the one that is loaded.")
MORE_JS = """const open = new Set();
element.addEventListener("toggle", (event) => {
  const index = event.target.dataset.index;
  if (event.target.open) open.add(index); else open.delete(index);
}, true);
element.addEventListener("click", (event) => {
  const more = event.target.closest("[data-more]");
  if (more) trigger("more", { shown: Number(more.dataset.more) });
});
watch("value", () => { // drawn again: what was open stays open
  for (const one of element.querySelectorAll("details")) one.open = open.has(one.dataset.index);
});"""


def highlighted(text: str, keywords: list[str]) -> str:
    """Escaped text with the keywords marked."""
    found = re.compile("|".join(map(re.escape, sorted(filter(None, keywords), key=len, reverse=True))) or r"(?!)", re.I)
    parts, at = [], 0
    for match in found.finditer(text):
        parts += [escape(text[at:match.start()]), f"<mark>{escape(match[0])}</mark>"]
        at = match.end()
    return "".join([*parts, escape(text[at:])])


def answer(side: tuple[str, str, str], said: dict, keywords: list[str], judged: bool) -> str:
    """One answer whole, with what is known of it."""
    name, zh, en = side
    n = said["tokens"]
    facts = [both(*ENDED.get(said["finish_reason"], ENDED["cancelled"])), both(f"{n} 个 token", f"{n} tokens")]
    if said["loop"]:
        facts.append(f'<span class="chip" data-level="loop">↻ ×{said["loop"]["copies"]}</span>')
    if said["chrf"] is not None:
        facts.append(f'chrF {said["chrf"]:.0f}')
    if name == "adapted" and said["mean_kl"] is not None:
        facts.append(f'KL {said["mean_kl"]:.2f}')
    mark = (chip("good", "✓ 答对", "✓ right") if said["right"] else chip("bad", "✗ 答错", "✗ wrong")) if judged else ""
    return (f'<div class="answer" data-side="{name}"><h4>{both(zh, en)} {mark}</h4>'
            f'<p lang="zh-CN">{highlighted(said["text"], keywords) or "—"}</p>'
            f'<p class="fine">{" · ".join(facts)}</p></div>')


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

    def head(self) -> str:
        """What was measured, the verdict in sentences, the large figures, the pictures."""
        r = self.fields
        said = "".join(f'<li data-level="{v["level"]}">{both(escape(v["zh"]), escape(v["en"]))}</li>'
                       for v in r["verdict"].values())
        what = both(f'{r["data"]["questions"]} 个没练过的问题，{r["data"]["off_topic"]} 个题外问题 · 适配器 '
                    f'<code>{escape(r["adapter"]["name"])}</code> · 底座 <code>{escape(r["base"]["name"])}</code>',
                    f'{r["data"]["questions"]} held-out questions, {r["data"]["off_topic"]} off topic · adapter '
                    f'<code>{escape(r["adapter"]["name"])}</code> · base <code>{escape(r["base"]["name"])}</code>')
        return f'<p class="fine">{what}</p>{cards(r)}<ul class="verdict">{said}</ul>{curves(r)}'

    def flips(self) -> str:
        """How many questions turned, each way, and how likely that is by chance."""
        test = self.fields["variants"][1]["mcnemar"]
        p = f"p = {test['p']:.2g}" if test["p"] >= 0.001 else "p < 0.001"
        return (f'<p class="flips"><span class="chip" data-level="good">✗→✓ {test["wrong_to_right"]}</span>'
                f'<span class="chip" data-level="bad">✓→✗ {test["right_to_wrong"]}</span>'
                f'<span class="fine">{both("McNemar 精确检验", "McNemar, exact")} {p}</span></p>')

    def table(self, search: str = "", kind: str = "all", shown: int = AT_ONCE) -> str:
        """The first `shown` of the questions found, each opening to both answers."""
        found = self.found(search, kind)
        rows = "".join(self.row(q) for q in found[:shown])
        more = (f'<p class="more"><button type="button" data-more="{shown}">{both("再看一些", "Show more")}'
                "</button></p>" if len(found) > shown else "")
        count = both(f"{len(found)} 个问题", f"{len(found)} questions")
        head = "".join(f"<span>{both(*name)}</span>" for name in HEADS)
        return (f'<p class="fine" role="status">{count}</p><div class="columns" aria-hidden="true">{head}</div>'
                f"{rows}{more}")

    def row(self, q: dict) -> str:
        """One question: folded its change and the beginnings of both answers, opened all of it."""
        kind, keywords = self.kinds[q["index"]], q["keywords"]
        sign, zh, en = KINDS[kind]
        pair = q["answers"][:2]
        ends = "".join(f'<span class="said" lang="zh-CN">{escape(a["text"][:60])}</span>' for a in pair)
        whole = "".join(answer(side, a, keywords, kind != "off_topic") for side, a in zip(SIDES, pair, strict=True))
        reference = (f'<p class="reference"><b>{both("参考答案", "Reference")}</b> <span lang="zh-CN">'
                     f'{highlighted(q["output"], keywords)}</span></p>' if q["output"] else "")
        return (f'<details data-index="{q["index"]}" data-kind="{kind}"><summary>'
                f'<span class="kind" title="{zh} · {en}">{sign}<span class="lens-hidden">{both(zh, en)}</span></span>'
                f'<span class="input" lang="zh-CN">'
                f'{escape(q["input"])}</span>{ends}</summary>{reference}<div class="pair">{whole}</div></details>')


def read_report(path: Path) -> Report | None:
    """The report of a file; None where there is none. Raises ValueError saying what is wrong with it."""
    if not path.is_file():
        return None
    try:
        report = Report(json.loads(path.read_text(encoding="utf-8")))
        if report.fields.get("format", FORMAT) != FORMAT:
            raise ValueError(f"format {report.fields['format']}, this page reads {FORMAT}")
        report.head(), report.flips(), report.table(shown=len(report.questions))  # every field is there
        return report
    except (KeyError, TypeError, IndexError, AttributeError, StopIteration) as err:
        raise ValueError(f"{path.name}: {err!r}") from err


def notice(engine, report: Report) -> str:
    """A line where the report is not of the adapter that is loaded."""
    sha = str(report.fields["adapter"]["sha256"])
    if not engine.files or engine.files.sha256 == sha:
        return ""
    return f'<p class="other" role="note">{both(*(text.format(escape(sha[:12])) for text in OTHER))}</p>'


def build(engine, path: Path = REPORT) -> None:
    """Lay the tab out inside the current Blocks."""
    section(heading("它到底学会了多少？", "How much did it really learn?",
                    "没练过的问题，两个模型都答一遍；先看由错变对和由对变错的。",
                    "Questions kept out of training, put to both models; those that flipped come first."))
    try:
        report = read_report(path)
    except ValueError as err:
        section(f'<p class="empty" role="alert">{both(*(text.format(escape(str(err))) for text in BROKEN))}</p>')
        report = None
    if report is None:
        section(f'<div class="empty"><p>{both(*NOTHING)}</p><pre tabindex="0"><code>{COMMAND}</code></pre></div>')
        return
    section(notice(engine, report) + report.head())
    section(heading("每一个问题", "Question by question", "点开一行，看两个回答。", "Open a line to see both answers.")
            + report.flips())
    with gr.Row(elem_id="reported-find"):
        search = gr.Textbox("", placeholder=FIND, show_label=False, label=FIND, container=False, max_length=200,
                            scale=1, min_width=240, elem_id="reported-search")
        kind = gr.Radio(CHOICES, value="all", show_label=False, label="哪些问题", container=False, scale=2,
                        elem_id="reported-kind")
    table = section(report.table(), js_on_load=MORE_JS, elem_id="reported-table")

    def more(search: str, kind: str, event: gr.EventData) -> str:
        return report.table(search, kind, int(event.shown) + AT_ONCE)

    quiet = {"api_visibility": "private", "show_progress": "hidden", "queue": False}
    gr.on([search.change, kind.change], report.table, [search, kind], table, trigger_mode="always_last", **quiet)
    table.more(more, [search, kind], table, **quiet)
