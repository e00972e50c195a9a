"""A whole result as HTML: one sentence that says what happened, the columns, the reference, link and downloads.

Takes columns as the engine yields them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape

from compare.page.shared import words
from compare.page.shared.answer_column import Decode, button, draw, icon
from compare.page.shared.error_text import Told
from compare.page.shared.held_out import every_row
from compare.page.shared.question import Asked
from compare.page.shared.words import Words

DONE = {
    "loop": Words("{who}原地打转：同一段话重复了 {copies} 遍", "{who} ran in circles: one phrase {copies} times"),
    "length": Words("{who}写满 {n} 个 token 也没停下", "{who} filled all {n} tokens without an end"),
    "stop": Words("{who}用 {n} 个 token 说完，自己停下", "{who} finished in {n} tokens and stopped by itself"),
    "cancelled": Words("{who}被停止在第 {n} 个 token", "{who} was stopped after {n} tokens"),
}
SAME = Words("两列逐字相同：在这个问题上，适配器什么也没有改变。",
             "Both answers are the same, word for word: on this question the adapter changed nothing.")
OFF = Words("适配器关着：第二列就是原模型，两列逐字相同。",
            "The adapter is off: the second column is the base itself, word for word.")
WRITING = Words("同一份权重，同一批计算：各列正在逐个 token 地写……",
                "One copy of the weights, one batch: all columns are writing, token by token…")


def happened(column, who: Words) -> Words:
    """Half a sentence on one column."""
    loop = column.loop
    phrase = DONE["loop"] if loop else DONE.get(column.finish_reason, DONE["length"])
    values = {"n": len(column.token_ids), "copies": loop.copies if loop else 0}
    return Words(phrase.zh.format(who=who.zh, **values), phrase.en.format(who=who.en, **values))


def verdict(columns: Sequence) -> str:
    """What the first two columns did, in one sentence."""
    if any(c.finish_reason is None for c in columns):
        return WRITING.html()
    if len(columns) == 1 or columns[1].variant.adapter is None:
        return happened(columns[0], words.BASE_TITLE[0]).html()
    base, adapted = columns[:2]
    if base.token_ids == adapted.token_ids and base.finish_reason == adapted.finish_reason:
        return (SAME if adapted.variant.strength else OFF).html()
    parts = [f'<span class="lens-said lens-{kind}">{happened(c, name[0]).html()}</span>' for c, name, kind in
             ((base, words.BASE_TITLE, "base"), (adapted, words.ADAPTED_TITLE, "adapted"))]
    return f'{parts[0]}<span class="lens-arrow" aria-hidden="true">→</span>{parts[1]}'


def as_json(asked: Asked, columns: Sequence, loaded: dict) -> dict:
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
    return "\n".join(lines) + "\n"


def tools(asked: Asked, columns: Sequence, loaded: dict) -> str:
    """Link and downloads; empty while writing."""
    if any(c.finish_reason is None for c in columns):
        return ""
    link, result = asked.link(), as_json(asked, columns, loaded)
    shared = (button("link", words.LINK, link, labelled=True) if link else
              f'<button type="button" class="lens-tool" disabled>{icon("link")}{words.TOO_LONG.html()}</button>')
    saved = "".join(f'<button type="button" class="lens-tool" data-action="download" data-name="lora-lens.{ending}" '
                    f'data-value="{escape(text)}">{icon("download")}{label}</button>' for ending, label, text in
                    (("json", "JSON", json.dumps(result, ensure_ascii=False, indent=1)),
                     ("md", "Markdown", as_markdown(result))))
    return shared + saved


def draw_result(asked: Asked, columns: Sequence, decode: Decode, loaded: dict, precomputed: bool = False) -> str:
    """All of it. `loaded`: name → value of what is loaded, for the downloads."""
    kept = every_row().get(asked.question)
    finished = all(c.finish_reason for c in columns)
    note = f'<span class="lens-note">{words.PRECOMPUTED.html()}</span>' if precomputed else ""
    reference = (f'<p class="lens-reference"><b>{words.REFERENCE.html()}</b>'
                 f'<span lang="zh-CN">{escape(kept.output)}</span></p>' if kept and finished else "")
    fixed = len(columns) - len(asked.extras)
    drawn = "".join(draw(c, i, decode, asked.question, i - fixed if i >= fixed else None)
                    for i, c in enumerate(columns))
    return (f'<div class="lens-verdict" role="status">{verdict(columns)}</div>'
            f'<div class="lens-columns" data-count="{len(columns)}">{drawn}</div><div class="lens-under">{reference}'
            f'<div class="lens-tools">{note}{tools(asked, columns, loaded)}</div></div>')


def draw_nothing() -> str:
    return f'<div class="lens-quiet">{words.NOTHING_YET.html()}</div>'


def draw_error(message: Words | Told) -> str:
    return f'<div class="lens-error" role="alert"><b>{words.CHECK.html()}</b><span>{message.html()}</span></div>'
