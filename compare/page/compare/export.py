"""A whole result to take away: JSON, Markdown, a Markdown table, and CSV for a spreadsheet."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from compare.page.frame.words import Words
from compare.page.shared.request import ComparisonRequest
from lens.strict_json import dumps

MARKUP = re.compile(r"[\\`*_\[\]<>|~&#$]")  # what Markdown reads in the midst of a line, GitHub's too
FORMULA = re.compile(r"\s*[=+\-@＝＋－＠]|[\t\r]")  # a spreadsheet computes what begins so (OWASP, CSV Injection)
CSV_HEAD = ("question", "instruction", "variant", "adapter", "strength", "prompt", "text", "finish_reason", "tokens",
            "seconds", "model", "error")


def as_dict(asked: ComparisonRequest, columns: Sequence, loaded: dict, beside: Sequence = ()) -> dict:
    """The contract's object of one question, with the settings and what was loaded. `beside`: endpoints' columns."""
    return {"question": asked.question, "instruction": asked.instruction, "columns": [c.as_dict() for c in columns],
            "sampling": {"max_new_tokens": asked.max_new_tokens, "temperature": asked.temperature,
                         "top_p": asked.top_p, "seed": asked.seed}, "loaded": loaded,
            **({"endpoints": [c.as_dict() for c in beside]} if beside else {})}


def as_markdown(result: dict) -> str:
    """The same for people: each answer fenced, so that nothing in it becomes markup."""
    lines = [f"# {result['question']}", "", f"instruction: {result['instruction'] or '—'}  ",
             "  ".join(f"{k}: {v}" for k, v in {**result["sampling"], **result["loaded"]}.items())]
    for column in result["columns"]:
        lines += [*fenced(f"{column['variant']} (strength {column['strength']:g})", column["text"]),
                  f"finish_reason: {column['finish_reason']}, {column['tokens']} tokens, {column['seconds']} s"]
    for column in result.get("endpoints", ()):
        ended = column["error"]["message"] if "error" in column else f"finish_reason: {column['finish_reason']}"
        lines += [*fenced(f"{column['endpoint']} ({column['model']}, not in this batch, nothing proven)",
                          column["text"]), ended]
    return "\n".join(lines) + "\n"


def fenced(heading: str, text: str) -> list[str]:
    fence = "`" * (3 + text.count("```"))
    return ["", f"## {heading}", "", fence, text, fence, ""]


def rows_of(result: dict) -> list[dict[str, Any]]:
    """A row an answer, by `CSV_HEAD`; what an answer does not have is None."""
    whole = {"question": result["question"], "instruction": result["instruction"]}
    ours = [{**column, **whole, "prompt": column.get("prompt", "chat")} for column in result["columns"]]
    others = [{**column, **whole, "variant": column["endpoint"], "error": column.get("error", {}).get("code")}
              for column in result.get("endpoints", ())]
    return [{name: row.get(name) for name in CSV_HEAD} for row in (*ours, *others)]


def as_table(result: dict) -> str:
    """The answers as one Markdown table, in which nothing that a model wrote becomes markup."""
    lines = ["| | answer | finish_reason | tokens |", "| --- | --- | --- | --- |"]
    lines += ["| " + " | ".join(cell(row[name]) for name in ("variant", "text", "finish_reason", "tokens")) + " |"
              for row in rows_of(result)]
    return f"**{cell(result['question'])}**\n\n" + "\n".join(lines) + "\n"


def cell(value: object) -> str:
    """A value inside a table: on one line, its markup escaped."""
    text = MARKUP.sub(r"\\\g<0>", "" if value is None else str(value))
    return re.sub(r"\r\n|\r|\n", "<br>", text)


def as_csv(result: dict) -> tuple[str, int]:
    """The answers for a spreadsheet, which knows UTF-8 by the mark at its beginning; and how many texts it would have
    computed as a formula, each of which has an apostrophe before it."""
    file, made_text = io.StringIO(), 0
    lines = csv.writer(file, lineterminator="\n")
    lines.writerow(CSV_HEAD)
    for row in rows_of(result):
        computed = {name for name, value in row.items() if isinstance(value, str) and FORMULA.match(value)}
        lines.writerow(f"'{value}" if name in computed else value for name, value in row.items())
        made_text += len(computed)
    return "\ufeff" + file.getvalue(), made_text


@dataclass(frozen=True)
class Download:
    """A file that the page offers of a result. `told`: what was changed in it."""

    ending: str
    label: str
    text: str
    told: Words | None = None


def downloads(result: dict) -> list[Download]:
    table, made_text = as_csv(result)
    told = Words(f"有 {made_text} 格的开头会被表格软件当作公式，前面加了撇号",
                 f"cells that a spreadsheet would compute, which got an apostrophe before them: {made_text}")
    return [Download("json", "JSON", dumps(result, indent=1)), Download("md", "Markdown", as_markdown(result)),
            Download("csv", "CSV", table, told if made_text else None)]
