"""Two answers as ribbons of tokens, each coloured by what the adapter changed there, beside a closer look at one.

Escaped HTML from a `compare.analysis.token_shift.Shift`, coloured by changed.css and moved by ribbon.js. Colour never
speaks alone: rank classes differ in underline, KL in its thickness.
"""

from __future__ import annotations

import json
import math
import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from html import escape
from types import MappingProxyType

from compare.analysis.token_shift import Position, Shift, View
from compare.page.changed.end_probability import ending, percent
from compare.page.shared.error_text import Told
from compare.page.shared.words import Words, both

KL_LEVELS = (0.1, 0.5, 2.0, 4.0)  # nats, at which the next darker shade begins
CLASSES = {  # of compare.analysis.token_shift: name → its words, and what it means
    "unshifted": ("没变", "unshifted", "原模型的首选也是它", "the base's first choice too"),
    "marginal": ("略变", "marginal", "在原模型排第 2、3 名", "2nd or 3rd in the base's list"),
    "shifted": ("变了", "shifted", "在原模型排到第 3 名以后", "further down the base's list"),
}
SIDES = {"base": ("原模型的回答", "The base's answer"), "adapted": ("适配后的回答", "The adapted answer"),
         "crossed": ("改道后的回答", "The answer that crossed over")}
TWO = ("base", "adapted")  # the sides of a shift
COLOURS = {"rank": ("按名次", "by rank"), "kl": ("按 KL", "by KL")}
PARTS = f'<span class="parts">{both("在此分开", "they part here")}</span>'
NATS = ("nat。KL 散度：两个模型的分布差多远", "nats. KL divergence: how far apart the two models are")
SAME = ("两个回答没有分开。", "The answers never part.")


def visible(text: str) -> str:
    """How a token that is not plain ink is shown; "" where it shows itself. "" is a piece of a character."""
    if text and not text.isspace() and "\n" not in text:
        return ""
    return text.replace("\n", "⏎").replace(" ", "␣").replace("\t", "⇥") or "⋯"


def chip(index: int, position: Position, end_id: int) -> str:
    """One token as a button; its text content is the token's own text."""
    shown, name = visible(position.text), CLASSES[position.category]
    level = bisect_right(KL_LEVELS, position.kl)
    spoken = f"{index + 1} {escape(shown or position.text)} · {name[0]} {name[1]}, KL {position.kl:.2g}"
    kind = ' data-end=""' if position.token_id == end_id else ""
    stand_in = f' data-shown="{escape(shown)}"' if shown else ""
    return (f'<button type="button" tabindex="-1" data-i="{index}" data-class="{position.category}" data-kl="{level}"'
            f'{kind}{stand_in} aria-label="{spoken}">{escape(position.text)}</button>')


def record(position: Position, end_id: int) -> dict:
    """What ribbon.js shows of one token."""
    def seen(view: View) -> dict:
        top = [[c.text, digits(c.probability), int(c.token_id == position.token_id), int(c.token_id == end_id),
                c.token_id]
               for c in view.top]
        return {"p": digits(math.exp(view.log_probability)), "rank": view.rank, "end": digits(view.end_probability),
                "top": top}

    return {"id": position.token_id, "text": position.text, "class": position.category, "kl": digits(position.kl),
            "choice": position.choice_rank, "end": int(position.token_id == end_id),
            "base": seen(position.base), "adapted": seen(position.adapted)}


def digits(value: float) -> float:
    return float(f"{value:.4g}")


def shares(positions: Sequence[Position]) -> str:
    """How many tokens fell into each class, as a bar and in figures."""
    counts = {name: sum(p.category == name for p in positions) for name in CLASSES}
    bar = "".join(f'<i data-class="{name}" style="flex:{n}"></i>' for name, n in counts.items() if n)
    said = " · ".join(f"{both(CLASSES[name][0], CLASSES[name][1])} <b>{percent(n / len(positions))}</b>"
                      for name, n in counts.items())
    return f'<div class="mix" aria-hidden="true">{bar}</div><p class="fine">{said}</p>'


def strip(side: str, positions: Sequence[Position], mark_at: int | None, mark: str, end_id: int) -> str:
    """The ribbon itself, with `mark` before the token of that index."""
    chips = "".join((mark if i == mark_at else "") + chip(i, p, end_id) for i, p in enumerate(positions))
    data = escape(json.dumps([record(p, end_id) for p in positions], ensure_ascii=False, separators=(",", ":")))
    zh, en = SIDES[side]
    return (f'<div class="ribbon" role="toolbar" aria-label="{zh} · {en}" lang="zh-CN" data-tokens="{data}">{chips}'
            "</div>")


def answer(side: str, positions: Sequence[Position], parts_at: int | None, end_id: int) -> str:
    """One answer: whose, how many tokens, its ribbon; below it the place of one that is turned off it."""
    zh, en = SIDES[side]
    count = both(f"{len(positions)} 个 token", f"{len(positions)} tokens")
    body = (shares(positions) if positions else "") + strip(side, positions, parts_at, PARTS, end_id)
    empty = "" if positions else f'<p class="fine">{both("（空）", "(empty)")}</p>'
    return (f'<article data-side="{side}"><header><h3>{both(zh, en)}</h3><p class="fine">{count}</p></header>'
            f'{body}{empty}</article>'
            f'<div class="crossing" data-of="{side}" aria-live="polite" hidden></div>')


def legend() -> str:
    """What the colours mean, for either colouring, and the switch between them."""
    switch = "".join(f'<label><input type="radio" name="lens-colour" value="{value}"{" checked" * (value == "rank")}>'
                     f"{both(zh, en)}</label>" for value, (zh, en) in COLOURS.items())
    ranks = "".join(f'<li><i class="key" data-class="{name}">{both("字", "ab")}</i> <b>{both(words[0], words[1])}</b> '
                    f"{both(words[2], words[3])}</li>" for name, words in CLASSES.items())
    edges = [f"< {KL_LEVELS[0]:g}", *(f"{a:g}–{b:g}" for a, b in zip(KL_LEVELS, KL_LEVELS[1:], strict=False)),
             f"≥ {KL_LEVELS[-1]:g}"]
    steps = "".join(f'<li><i class="key" data-kl="{i}">{both("字", "ab")}</i> {edge}</li>'
                    for i, edge in enumerate(edges))
    return (f'<div class="keys"><fieldset class="steps"><legend>{both("上色", "Colour")}</legend>{switch}</fieldset>'
            f'<ul class="of-rank">{ranks}</ul><ul class="of-kl">{steps}<li>{both(*NATS)}</li></ul></div>')


def told(shift: Shift) -> str:
    """The one sentence, its share set off, and below it where the answers part and what a choice is."""
    loud = [re.sub(r"(\d+%)", r"<b>\1</b>", escape(shift.sentence(language)), count=1) for language in ("zh", "en")]
    where = SAME if shift.parts_at is None else (f"两个回答在第 {shift.parts_at + 1} 个 token 分开。",
                                                 f"The answers part at token {shift.parts_at + 1}.")
    return f'<p class="told" role="status">{both(*loud)}</p><p class="lead">{both(*where)} {both(*HOW)}</p>'


HOW = ("“选择”指模型最想写的那个 token。点一个 token，看两个模型各想写什么；再点其中一个词，回答就从那里改道。",
       "A choice is the token a model would most like to write. Pick a token to see what each model had in mind; "
       "then pick one of those words, and the answer turns there.")
LOOK = ('<aside class="look" role="region" aria-label="这个 token · This token"></aside>'
        '<p class="spoken" aria-live="polite"></p>')


def draw(shift: Shift, end_id: int, asked: Mapping[str, str] = MappingProxyType({})) -> str:
    """All of one shift: the sentence, both ribbons with the closer look, the curve of ending.

    `asked`: question, instruction and adapter, which ribbon.js sends back where an answer is turned.
    """
    sides = "".join(answer(side, getattr(shift, side), shift.parts_at, end_id) for side in TWO)
    parts = "" if shift.parts_at is None else str(shift.parts_at)
    what = escape(json.dumps(dict(asked), ensure_ascii=False))
    return (f'<div class="shift" data-parts="{parts}" data-asked="{what}">{told(shift)}{legend()}'
            f'<div class="two"><div class="answers">{sides}</div>{LOOK}</div>{ending(shift, end_id)}</div>')


def writing(texts: Sequence[str]) -> str:
    """While both answers are being written: their texts so far."""
    both_sides = "".join(f'<article data-side="{side}"><header><h3>{both(*SIDES[side])}</h3></header>'
                         f'<p class="plain" lang="zh-CN" tabindex="0">{escape(text) or "…"}</p></article>'
                         for side, text in zip(TWO, texts, strict=True))
    wait = both("两个模型正在写，写完逐个 token 对照……", "Both models are writing; then every token is compared…")
    return (f'<div class="shift" aria-busy="true"><p class="told" role="status">{wait}</p>'
            f'<div class="answers wide">{both_sides}</div></div>')


def problem(message: Words | Told) -> str:
    """What went wrong, as a sentence for the visitor."""
    return f'<div class="problem" role="alert"><b>{both("请检查", "Please check")}</b> {message.html()}</div>'
