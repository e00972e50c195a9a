"""report.md: the report for a terminal, a pull request or a model card. Reads report.json's dictionary.

Model text is escaped, so that nothing in it becomes a table, a link or HTML.
"""

from __future__ import annotations

import re

from compare.report.pictures import strength_points
from compare.report.words import MEASURES

FLIPS_SHOWN = 20  # of each kind
TEXT_SHOWN = 160  # characters of an answer


def plain(text: str, longest: int = TEXT_SHOWN) -> str:
    """Text as one safe line of a table."""
    line = " ".join(text.split())
    line = line if len(line) <= longest else line[:longest] + "…"
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]()#+!|~$])", r"\\\1", line) or "–"


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def flips(report: dict, kind: str, title: str) -> list[str]:
    indexes = report["flips"][kind]
    by_index = {q["index"]: q for q in report["questions"]}
    parts = [f"### {title}: {len(indexes)}"]
    if indexes:
        shown = [by_index[i] for i in indexes[:FLIPS_SHOWN]]
        parts.append(table(["question", "reference", "base", "adapted"],
                           [[plain(q["input"]), plain(q["output"] or " · ".join(q["keywords"])),
                             plain(q["answers"][0]["text"]), plain(q["answers"][1]["text"])] for q in shown]))
    if len(indexes) > FLIPS_SHOWN:
        parts.append(f"{len(indexes) - FLIPS_SHOWN} more are in report.json.")
    return parts


def measures(report: dict) -> str:
    base, adapted = report["variants"][:2]
    rows = []
    for m in MEASURES:
        before, after = base["measures"][m.name], adapted["measures"][m.name]
        if after:
            cells = [f"{m.value(f)} ({m.interval(f)})" if f else "–" for f in (before, after)]
            rows.append([m.title, *cells, m.change(adapted["difference"].get(m.name)), m.explained])
    return table(["measure", "base", plain(adapted["name"]), "change", "what it says"], rows)


def curve(variants: list[dict], x: str) -> str:
    share = next(m for m in MEASURES if m.name == "right")
    return table([x, "name", "right", "in a loop", "perplexity of plain text", "does not know, off topic"],
                 [[f"{v[x]:g}" if v[x] is not None else "–", plain(v["name"]), share.value(v["measures"]["right"]),
                   share.value(v["measures"]["loops"]), f"{v['plain']['perplexity']['value']:.1f}",
                   share.value(v["off_topic"]["does_not_know"])] for v in variants])


def off_topic(report: dict) -> list[str]:
    shown = [q for q in report["questions"] if q["kind"] == "unknown"][:FLIPS_SHOWN]
    if not shown:
        return []
    return ["### Off topic", table(["question", "base", "adapted"],
                                   [[plain(q["input"]), *(plain(a["text"]) for a in q["answers"][:2])] for q in shown])]


def markdown(report: dict) -> str:
    """The whole page."""
    verdict, paired, adapter = report["verdict"], report["variants"][1]["mcnemar"], report["adapter"]
    settings = " · ".join(f"{k} {v}" for k, v in report["settings"].items())
    parts = [f"# Report: {plain(adapter['name'])} on {plain(report['base']['name'])}",
             *(f"- {v['en']}" for v in verdict.values()), "![base beside adapted](pair.png)",
             "## What changed", *flips(report, "wrong_to_right", "Wrong → right"),
             *flips(report, "right_to_wrong", "Right → wrong"), f"McNemar's exact test: p = {paired['p']:.3g}.",
             "## Figures", f"Over {report['data']['questions']} questions, with 95% intervals (bootstrap).",
             measures(report), "## What it cost", verdict["forgetting"]["en"], verdict["off_topic"]["en"],
             *off_topic(report)]
    if len(report["variants"]) > 2:
        parts += ["## Strengths and other adapters", curve(report["variants"], "strength")]
    if strength_points(report):
        parts.append("![strengths](strengths.png)")
    if report["checkpoints"]:
        parts += ["## Checkpoints", "![checkpoints](checkpoints.png)", curve(report["checkpoints"], "step")]
    parts += ["## How",
              f"Questions: `{report['data']['name']}` (sha256 `{report['data']['sha256'][:12]}`), plain text: "
              f"`{report['plain']['name']}` ({report['plain']['sentences']} sentences). Adapter sha256 "
              f"`{adapter['sha256'][:12]}`, base `{report['base']['sha256'][:12]}`. {settings}."]
    return "\n\n".join(parts) + "\n"
