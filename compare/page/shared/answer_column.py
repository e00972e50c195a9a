"""One column as escaped HTML: whose answer, its text with the loop shaded, why it stopped, figures with their terms.

Takes anything with a column's fields (compare.engine.interface.Column) and a way to decode ids.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from compare.analysis.repetition import Loop, seq_rep
from compare.page.shared import words
from compare.page.shared.words import Words

HALF_REPEATED = 0.5  # seq-rep-4 from which a short answer is said to repeat itself
Decode = Callable[[Sequence[int]], str]
SIGNS = {"stop": "✓", "length": "✂", "loop": "↻", "cancelled": "■", None: "✎"}
ICONS = {  # 24 × 24 paths, drawn by us
    "copy": "M9 9h11v11H9z M5 15H4V4h11v1", "focus": "M4 9V4h5 M20 9V4h-5 M4 15v5h5 M20 15v5h-5",
    "remove": "M6 6l12 12 M18 6L6 18", "link": "M9 15l6-6 M10 6l2-2a4 4 0 0 1 6 6l-2 2 M14 18l-2 2a4 4 0 0 1-6-6l2-2",
    "download": "M12 4v11 M7 11l5 5 5-5 M5 20h14",
}


@dataclass(frozen=True)
class Waiting:
    """A column before its first token."""

    variant: object
    token_ids: Sequence[int] = ()
    text: str = ""
    finish_reason: str | None = None
    seconds: float = 0.0
    loop: Loop | None = None


def repeats(column) -> bool:
    """Does it end in a loop, or is it, short as it is, mostly repetition?"""
    return bool(column.loop) or (seq_rep(column.token_ids) or 0) > HALF_REPEATED


def icon(name: str) -> str:
    return (f'<svg viewBox="0 0 24 24" width="16" height="16" fill="none" stroke="currentColor" stroke-width="1.8" '
            f'stroke-linecap="round" stroke-linejoin="round" aria-hidden="true"><path d="{ICONS[name]}"/></svg>')


def button(action: str, name: Words, value: object = "", pressed: bool | None = None, labelled: bool = False) -> str:
    """A button that result.js acts on by its `data-action`; the name in view only where `labelled`."""
    state = "" if pressed is None else f' aria-pressed="{str(pressed).lower()}"'
    shown = name.html() if labelled else f'<span class="lens-hidden">{name.html()}</span>'
    return (f'<button type="button" class="lens-tool" data-action="{action}" data-value="{escape(str(value))}"'
            f'{state}>{icon(action)}{shown}</button>')


def tip(shown: str, term: Words, identity: str, kind: str = "", **values: object) -> str:
    """Words with their explanation on hover and on keyboard focus."""
    return (f'<span class="lens-tip {kind}" tabindex="0" aria-describedby="{identity}">{shown}'
            f'<span role="tooltip" class="lens-term" id="{identity}">{term.html(**values)}</span></span>')


def title(variant) -> tuple[Words, Words, str]:
    """Name, what it is, and the kind that colours it: base or adapted."""
    if variant.prompt == "plain":
        return *words.PLAIN_TITLE, "base"
    if variant.adapter is None:
        return *words.BASE_TITLE, "base"
    if variant.strength == 0:
        return *words.OFF_TITLE, "base"
    return *(words.ADAPTED_TITLE if variant.strength == 1 else words.STRENGTH_TITLE), "adapted"


def answer(column, decode: Decode, before: str = "") -> str:
    """The text behind what it goes on from, if shown; from the onset of its loop on shaded and as running text."""
    text = column.text
    if before:
        return f'<span class="lens-before">{escape(before)}</span>{answer(column, decode)}'
    if not text:
        return f'<span class="lens-quiet">{(words.EMPTY if column.finish_reason else words.READING).html()}</span>'
    loop = column.loop
    if not loop:
        return f"<span>{escape(text)}</span>"
    onset = len(decode(column.token_ids[:loop.onset]).rstrip("\ufffd"))
    tail = escape(text[onset:]).replace("\n", '<span class="lens-return" aria-hidden="true">⏎</span> ')
    return (f'<span>{escape(text[:onset])}</span><mark class="lens-loop">{tail}</mark>'
            f'<span class="lens-badge" aria-hidden="true">↻ ×{loop.copies}</span>')


def facts(column, identity: str) -> str:
    """Why it stopped, tokens, tokens a second and repetition, each with its term."""
    name, term = words.WHY[column.finish_reason]
    kind = f"lens-why lens-why-{column.finish_reason or 'writing'}"
    sign = f'<span aria-hidden="true">{SIGNS[column.finish_reason]}</span>'
    said = [tip(f"{sign} {name.html()}", term, f"{identity}-why", kind)]
    if column.variant.prompt == "plain":
        said.append(tip(words.PLAIN_PROMPT[0].html(), words.PLAIN_PROMPT[1], f"{identity}-prompt"))
    count = len(column.token_ids)
    said.append(tip(words.TOKENS[0].html(n=count), words.TOKENS[1], f"{identity}-tokens"))
    if column.seconds and count:
        said.append(tip(words.SPEED[0].html(n=round(count / column.seconds)), words.SPEED[1], f"{identity}-speed"))
    if loop := column.loop:
        said.append(tip(f'<span aria-hidden="true">↻</span> {words.LOOP[0].html(copies=loop.copies)}', words.LOOP[1],
                        f"{identity}-loop", "lens-looping", copies=loop.copies, period=loop.period))
    if count >= 4:
        share = round(100 * (seq_rep(column.token_ids) or 0))
        shown = words.REPEATS[0].html(n=share) if share else words.NO_REPEATS.html()
        said.append(tip(shown, words.REPEATS[1], f"{identity}-repeats"))
    return "".join(said)


def draw(column, index: int, decode: Decode, question: str = "", extra: int | None = None) -> str:
    """The whole column. Ids: `base`, `adapted`, `column-2`…, and the same with `-status` for the figures.

    `question`: what a plain column goes on from; `extra`: which of the further columns it is, and can be removed as.
    """
    identity = "base" if index == 0 else "adapted" if index == 1 and column.variant.adapter else f"column-{index}"
    name, what, kind = title(column.variant)
    values = {"name": column.variant.adapter or "", "strength": f"{column.variant.strength:g}"}
    tools = button("copy", words.COPY) + button("focus", words.FOCUS, index, pressed=False)
    tools += button("remove", words.REMOVE, extra) if extra is not None else ""
    before = question if column.variant.prompt == "plain" else ""
    busy = str(column.finish_reason is None).lower()
    return (f'<article class="lens-col lens-{kind}" id="{identity}" data-index="{index}" '
            f'data-state="{column.finish_reason or "writing"}" aria-labelledby="{identity}-title">'
            f'<header><h3 id="{identity}-title">{name.html(**values)}</h3><p>{what.html(**values)}</p>'
            f'<div class="lens-tools">{tools}</div></header>'
            f'<div class="lens-answer" tabindex="0" role="region" aria-labelledby="{identity}-title" '
            f'aria-live="polite" aria-busy="{busy}" lang="zh-CN" data-text="{escape(column.text)}">'
            f'{answer(column, decode, before)}</div>'
            f'<div class="lens-facts" id="{identity}-status">{facts(column, identity)}</div></article>')
