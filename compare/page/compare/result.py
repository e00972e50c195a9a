"""A whole result of a comparison: drawn, and as JSON and Markdown to take away."""

from __future__ import annotations

import json
from collections.abc import Sequence

from markupsafe import Markup

from compare.page.shared.answer_column import draw_column
from compare.page.shared.held_out import every_row
from compare.page.shared.request import ComparisonRequest
from compare.page.shared.templates import draw


def as_dict(asked: ComparisonRequest, columns: Sequence, loaded: dict) -> dict:
    """The contract's object of one question, with the settings and what was loaded."""
    return {"question": asked.question, "instruction": asked.instruction, "columns": [c.as_dict() for c in columns],
            "sampling": {"max_new_tokens": asked.max_new_tokens, "temperature": asked.temperature,
                         "top_p": asked.top_p, "seed": asked.seed}, "loaded": loaded}


def as_markdown(result: dict) -> str:
    """The same for people: each answer fenced, so that nothing in it becomes markup."""
    lines = [f"# {result['question']}", "", f"instruction: {result['instruction'] or '—'}  ",
             "  ".join(f"{k}: {v}" for k, v in {**result["sampling"], **result["loaded"]}.items())]
    for column in result["columns"]:
        fence = "`" * (3 + column["text"].count("```"))
        lines += ["", f"## {column['variant']} (strength {column['strength']:g})", "", fence, column["text"], fence, "",
                  f"finish_reason: {column['finish_reason']}, {column['tokens']} tokens, {column['seconds']} s"]
    for column in result.get("endpoints", ()):
        fence = "`" * (3 + column["text"].count("```"))
        ended = column["error"]["message"] if "error" in column else f"finish_reason: {column['finish_reason']}"
        lines += ["", f"## {column['endpoint']} ({column['model']}, not in this batch, nothing proven)", "", fence,
                  column["text"], fence, "", ended]
    return "\n".join(lines) + "\n"


def draw_result(asked: ComparisonRequest, columns: Sequence, loaded: dict, precomputed: bool = False,
                beside: Sequence = ()) -> Markup:
    """All of it. `loaded`: name → value of what is loaded, for the downloads; `beside`: endpoints' columns."""
    finished = all(c.finish_reason for c in columns) and all(c.over for c in beside)
    known, fixed = every_row().get(asked.question), len(columns) - len(asked.extras)
    saved: list[tuple[str, str, str]] = []
    if finished:
        result = as_dict(asked, columns, loaded) | ({"endpoints": [c.as_dict() for c in beside]} if beside else {})
        saved = [("json", "JSON", json.dumps(result, ensure_ascii=False, indent=1)),
                 ("md", "Markdown", as_markdown(result))]
    return draw("compare/result", "result", columns=columns, finished=finished, precomputed=precomputed, saved=saved,
                drawn=[draw_column(c, i, asked.question, i - fixed if i >= fixed else None)
                       for i, c in enumerate(columns)],
                beside=beside, reference=known.output if known and finished else "", link=asked.link())
