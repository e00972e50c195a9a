"""One training as a film: the answers of all its checkpoints at several strengths, as HTML.

A stage shows one answer large, a scrubber runs along the loss curve (losses.py), a grid shows all answers at once;
timeline.js joins the three. All text of models and rows is escaped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from compare.engine.interface import BASE, Variant
from compare.page.shared import held_out as heldout
from compare.page.shared.answer_column import repeats
from compare.page.shared.loss_curve import Loss, curve
from compare.page.shared.words import both
from compare.report.rows import Row

STRENGTHS = (0.5, 1.0, 1.5, 2.0)
LENGTH = 48  # tokens an answer may have
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


def mark(kind: object, sign: str, zh: str, en: str) -> str:
    """A sign with its words, which the grid shows on hover alone."""
    return (f'<span class="mark" data-kind="{kind}" title="{zh} · {en}"><i aria-hidden="true">{sign}</i>'
            f'<span class="word">{both(zh, en)}</span></span>')


def marks(finish_reason: str | None, right: bool | None, loops: bool) -> str:
    """Right or wrong where that is known, a loop, and how it ended."""
    if finish_reason is None:
        return mark("writing", *ENDED[None])
    found = [] if right is None else [mark("right" if right else "wrong", *RIGHT[right])]
    if loops or finish_reason == "loop":
        found.append(mark("loop", *LOOP))
    if finish_reason != "loop":
        found.append(mark(finish_reason, *ENDED[finish_reason]))
    return "".join(found)


@dataclass(frozen=True)
class Shown:
    """An answer as it is drawn, all in HTML. `right`: None while it is written, and where nobody knows."""

    text: str
    right: bool | None
    marks: str

    @classmethod
    def of(cls, column, row: Row | None) -> Shown:
        """`column` None: nothing has been asked yet."""
        if column is None:
            return cls("…", None, marks(None, None, False))
        text, done = column.text.strip(), column.finish_reason is not None
        right = heldout.is_right(row, text) if row and done else None
        return cls(escape(text) or "…—"[done], right, marks(column.finish_reason, right, done and repeats(column)))


def legend(row: Row | None) -> str:
    """What the marks mean."""
    known = [mark("right" if right else "wrong", *RIGHT[right]) for right in (True, False)] if row else []
    return f'<p class="legend">{"".join([*known, *(mark(r, *ENDED[r]) for r in ("stop", "length", "loop"))])}</p>'


def cell(index: int, strength: float | None, shown: Shown) -> str:
    """One answer as a button; `index` counts the checkpoints, where 0 is the base, the same at every strength."""
    right = "" if shown.right is None else f' data-right="{str(shown.right).lower()}"'
    span = f' rowspan="{len(STRENGTHS)}"' if strength is None else ""
    name = "base" if strength is None else f"{strength:g}"
    return (f'<td{span}{right}><button type="button" class="cell" data-i="{index}" data-strength="{name}" '
            f'aria-pressed="false"><span class="said" lang="zh-CN">{shown.text}</span>'
            f'<span class="marks">{shown.marks}</span></button></td>')


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
        answers = [Shown.of(column, row) for column in columns or [None] * len(self.variants)]
        return (f'<div class="timeline"><div class="film">{self.stage(question, answers, row)}{self.scrubber()}</div>'
                f"{self.grid(answers)}{legend(row)}</div>")

    def stage(self, question: str, answers: Sequence[Shown], row: Row | None) -> str:
        """The question and one answer: at first the last checkpoint's as trained."""
        shown = answers[(STRENGTHS.index(1.0) + 1) * len(self.checkpoints)]
        choices = "".join(f'<label><input type="radio" name="lens-film" value="{s:g}"{" checked" * (s == 1)}>'
                          f"<span>{s:g}</span></label>" for s in STRENGTHS)
        reference = (f'<p class="fine">{both("参考答案", "Reference")} <span lang="zh-CN">{escape(row.output)}'
                     "</span></p>" if row and row.output else "")
        return (f'<div class="stage"><p class="asked" lang="zh-CN">{escape(question)}</p>'
                f'<output class="now" for="lens-step" aria-live="off" lang="zh-CN">{shown.text}</output>'
                f'<p class="marks" data-marks>{shown.marks}</p>{reference}'
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

    def grid(self, answers: Sequence[Shown]) -> str:
        """Strengths down, checkpoints across."""
        n = len(self.checkpoints)
        head = "".join(f'<th scope="col">{c.step:,}</th>' for c in self.checkpoints)
        body = []
        for k, strength in enumerate(STRENGTHS):
            first = cell(0, None, answers[0]) if k == 0 else ""
            cells = "".join(cell(i + 1, strength, answers[1 + k * n + i]) for i in range(n))
            body.append(f'<tr><th scope="row">{strength:g}</th>{first}{cells}</tr>')
        corner, base = both("强度＼步数", "strength \\ step"), both("原模型", "base")
        return (f'<div class="scroll" role="region" aria-label="强度 × 步数 Strengths × steps"><table><thead><tr>'
                f'<th scope="col"><small>{corner}</small></th><th scope="col">0 <small>{base}</small></th>'
                f'{head}</tr></thead><tbody>{"".join(body)}</tbody></table></div>')
