"""One training as a film: the answers of all its checkpoints at several strengths, as HTML. Knows no engine.

A stage shows one answer large, a scrubber runs along the loss curve (losses.py), a grid shows all answers at once;
timeline.js joins the three. All text of models and rows is escaped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from compare.gate import BASE, Variant
from compare.page import heldout
from compare.page.drawing import both, escaped
from compare.page.losses import Loss, curve
from compare.repetition import seq_rep
from compare.report.rows import Row

STRENGTHS = (0.5, 1.0, 1.5, 2.0)
LENGTH = 48  # tokens an answer may have
HALF_REPEATED = 0.5  # seq-rep-4 from which a short answer is said to repeat itself
LOOP = ("↻", "翻来覆去", "repeats itself")
ENDED = {"stop": ("⏎", "自己说完", "ended by itself"), "loop": LOOP,
         "length": ("✂", f"写满 {LENGTH} 个 token", f"cut at {LENGTH} tokens"),
         "cancelled": ("■", "已停止", "stopped"), None: ("✎", "正在写", "writing")}
RIGHT = {True: ("✓", "答对", "right"), False: ("✗", "答错", "wrong")}


@dataclass(frozen=True)
class Checkpoint:
    """An adapter and the training steps behind it."""

    name: str
    step: int


def repeats(column) -> bool:
    """Does it end in a loop, or is it, short as it is, mostly repetition?"""
    return bool(column.loop) or (seq_rep(column.token_ids) or 0) > HALF_REPEATED


def judged(column, row: Row | None) -> bool | None:
    """Is a finished answer right? None while it is written, and where nobody knows."""
    return heldout.is_right(row, column.text) if row and column and column.finish_reason else None


def mark(kind: object, sign: str, zh: str, en: str) -> str:
    """A sign with its words, which the grid shows on hover alone."""
    return (f'<span class="mark" data-kind="{kind}" title="{zh} · {en}"><i aria-hidden="true">{sign}</i>'
            f'<span class="word">{both(zh, en)}</span></span>')


def marks(column, row: Row | None) -> str:
    """Right or wrong where that is known, a loop, and how it ended."""
    if column is None or column.finish_reason is None:
        return mark("writing", *ENDED[None])
    right, found = judged(column, row), []
    if right is not None:
        found.append(mark("right" if right else "wrong", *RIGHT[right]))
    if repeats(column):
        found.append(mark("loop", *LOOP))
    if column.finish_reason != "loop":
        found.append(mark(column.finish_reason, *ENDED[column.finish_reason]))
    return "".join(found)


def legend(row: Row | None) -> str:
    """What the marks mean."""
    known = [mark("right" if right else "wrong", *RIGHT[right]) for right in (True, False)] if row else []
    return f'<p class="legend">{"".join([*known, *(mark(r, *ENDED[r]) for r in ("stop", "length", "loop"))])}</p>'


def cell(index: int, strength: float | None, column, row: Row | None) -> str:
    """One answer as a button; `index` counts the checkpoints, where 0 is the base, the same at every strength."""
    text = escaped(column.text.strip()) if column else ""
    right = {True: ' data-right="true"', False: ' data-right="false"', None: ""}[judged(column, row)]
    span = f' rowspan="{len(STRENGTHS)}"' if strength is None else ""
    name = "base" if strength is None else f"{strength:g}"
    return (f'<td{span}{right}><button type="button" class="cell" data-i="{index}" data-strength="{name}" '
            f'aria-pressed="false"><span class="said" lang="zh-CN">{text or "…"}</span>'
            f'<span class="marks">{marks(column, row)}</span></button></td>')


@dataclass(frozen=True)
class Film:
    """One training: its checkpoints by rising step, and its losses."""

    checkpoints: Sequence[Checkpoint]
    losses: Sequence[Loss]

    @property
    def steps(self) -> list[int]:
        """Of the base, then of each checkpoint."""
        return [0, *(c.step for c in self.checkpoints)]

    @property
    def variants(self) -> list[Variant]:
        """Base, then the grid row by row."""
        return [BASE, *(Variant(f"{c.name}@{s:g}", c.name, s) for s in STRENGTHS for c in self.checkpoints)]

    def draw(self, question: str, columns: Sequence | None = None) -> str:
        """All of it. `columns`: in the order of `variants`; None before there are any."""
        row = heldout.rows().get(question)
        return (f'<div class="timeline"><div class="film">{self.stage(question, columns, row)}{self.scrubber()}</div>'
                f"{self.grid(columns, row)}{legend(row)}</div>")

    def stage(self, question: str, columns: Sequence | None, row: Row | None) -> str:
        """The question and one answer: at first the last checkpoint's as trained."""
        shown = columns and next(c for c in reversed(columns) if c.variant.strength == 1)
        choices = "".join(f'<label><input type="radio" name="lens-film" value="{s:g}"{" checked" * (s == 1)}>'
                          f"<span>{s:g}</span></label>" for s in STRENGTHS)
        reference = (f'<p class="fine">{both("参考答案", "Reference")} <span lang="zh-CN">{escaped(row.output)}'
                     "</span></p>" if row and row.output else "")
        said = escaped(shown.text.strip()) if shown else ""
        return (f'<div class="stage"><p class="asked" lang="zh-CN">{escaped(question)}</p>'
                f'<output class="now" for="lens-step" aria-live="off" lang="zh-CN">{said or "…"}</output>'
                f'<p class="marks" data-marks>{marks(shown, row)}</p>{reference}'
                f'<fieldset><legend>{both("强度", "Strength")}</legend>{choices}</fieldset></div>')

    def scrubber(self) -> str:
        """The loss curve, a slider along it, and the button that plays."""
        last, end = len(self.checkpoints), self.steps[-1]
        labels = "".join(f'<span style="left:{100 * i / last:.2f}%">{step:,}</span>'
                         for i, step in enumerate(self.steps))
        title = both("训练损失", "Training loss")
        return (f'<figure><figcaption><b>{title}</b> <b class="loss" data-loss></b></figcaption>'
                f'{curve(self.losses, self.steps)}'
                f'<input id="lens-step" type="range" min="0" max="{last}" step="0.01" value="{last}" '
                f'data-steps="{self.steps}" aria-label="训练步数 Training step" aria-valuetext="{end}">'
                f'<div class="scale" aria-hidden="true">{labels}</div>'
                f'<div class="controls"><button type="button" class="play" data-play aria-pressed="false">'
                f'<i aria-hidden="true"></i>{both("放映", "Play")}</button><p>{both("训练步数", "Training step")} '
                f'<b data-step>{end:,}</b></p></div></figure>')

    def grid(self, columns: Sequence | None, row: Row | None) -> str:
        """Strengths down, checkpoints across."""
        n = len(self.checkpoints)
        head = "".join(f'<th scope="col">{c.step:,}</th>' for c in self.checkpoints)
        body = []
        for k, strength in enumerate(STRENGTHS):
            base = cell(0, None, columns and columns[0], row) if k == 0 else ""
            cells = "".join(cell(i + 1, strength, columns and columns[1 + k * n + i], row) for i in range(n))
            body.append(f'<tr><th scope="row">{strength:g}</th>{base}{cells}</tr>')
        corner, base = both("强度＼步数", "strength \\ step"), both("原模型", "base")
        return (f'<div class="scroll" role="region" aria-label="强度 × 步数 Strengths × steps"><table><thead><tr>'
                f'<th scope="col"><small>{corner}</small></th><th scope="col">0 <small>{base}</small></th>'
                f'{head}</tr></thead><tbody>{"".join(body)}</tbody></table></div>')
