"""Two answers without names as HTML: open, voted on, and the votes so far.

All text of models and rows is escaped. Words are Chinese and English, of which the language switch shows one.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from compare.page.shared.held_out import is_right
from compare.page.shared.words import both
from compare.report.rows import Row
from compare.server.votes import Tally

# A choice, its key, its sign and its words.
CHOICES = (("left", "1", "←", "A 更好", "A is better"), ("right", "2", "→", "B 更好", "B is better"),
           ("both", "3", "↑", "都好", "Both are good"), ("neither", "4", "↓", "都不好", "Neither is good"))
VERDICTS = {"better": ("你选了适配后的回答。", "You chose the adapted answer."),
            "worse": ("你选了原模型的回答。", "You chose the base's answer."),
            "both": ("你觉得都好。", "You found both good."), "neither": ("你觉得都不好。", "You found neither good.")}
ENDED = {"stop": ("自己说完", "ended by itself"), "length": ("到长度上限被截断", "cut at the limit"),
         "cancelled": ("已停止", "stopped"), "loop": ("陷入循环", "stopped in a loop")}
SIDES = {"base": ("原模型", "Base"), "adapted": ("适配后", "Adapted")}
PLACES = ("A", "B")
WRITING = ("两个回答正在写，写完一起给你看。", "Both answers are being written; you will see them together.")


@dataclass(frozen=True)
class Said:
    """One finished answer. `copies`: of the pattern that it ends in, where it loops."""

    text: str
    finish_reason: str
    tokens: int
    copies: int | None = None

    @classmethod
    def of(cls, column) -> Said:
        return cls(column.text, column.finish_reason, len(column.token_ids), column.loop and column.loop.copies)


@dataclass(frozen=True)
class Ballot:
    """Two answers to a row. `adapted_left` is not shown before the vote; `identity` says nothing of it."""

    identity: str
    row: Row
    base: Said
    adapted: Said
    adapted_left: bool

    @property
    def sides(self) -> tuple[str, str]:
        return ("adapted", "base") if self.adapted_left else ("base", "adapted")

    def verdict(self, choice: str) -> str:
        """What a choice says of the adapted answer."""
        if choice in ("left", "right"):
            return "better" if (choice == "left") == self.adapted_left else "worse"
        return choice


def side(ballot: Ballot, index: int, voted: bool) -> str:
    """One answer; after the vote with its name, whether it is right and how it ended."""
    who = ballot.sides[index]
    said: Said = getattr(ballot, who)
    name, foot, tone = PLACES[index], "", ""
    if voted:
        name, tone = both(*SIDES[who]), f' data-who="{who}"'
        right = is_right(ballot.row, said.text)
        mark = both("✓ 答对", "✓ right") if right else both("✗ 答错", "✗ wrong")
        length = both(f"{said.tokens} 个 token", f"{said.tokens} tokens")
        loop = f'<span class="mark loop">↻ ×{said.copies}</span>' if said.copies else ""
        foot = (f'<p class="foot"><span class="mark {"right" if right else "wrong"}">{mark}</span>{loop}'
                f'<span>{both(*ENDED[said.finish_reason])} · {length}</span></p>')
    return (f'<article class="side"{tone}><h3>{name}</h3><div class="text" lang="zh-CN" tabindex="0" role="region" '
            f'aria-label="{PLACES[index]}">{escape(said.text) or "—"}</div>{foot}</article>')


def draw(ballot: Ballot, choice: str | None, result: str) -> str:
    """The whole ballot: open while `choice` is None, then with names, reference and result."""
    row, voted = ballot.row, choice is not None
    buttons = "".join(
        f'<button type="button" data-vote="{name}" aria-pressed="{str(name == choice).lower()}"'
        f'{" disabled" * voted} aria-keyshortcuts="{key}"><kbd>{key}</kbd><span aria-hidden="true">{sign}</span> '
        f'{both(zh, en)}</button>' for name, key, sign, zh, en in CHOICES)
    said = both(*VERDICTS[ballot.verdict(choice)]) if voted else both("哪个回答更好？", "Which answer is better?")
    reference = (f'<p class="reference"><b>{both("参考答案", "Reference")}</b> <span lang="zh-CN">'
                 f'{escape(row.output)}</span></p>' if voted and row.output else "")
    return (f'<div class="ballot" data-state="{"voted" if voted else "open"}" data-ballot="{ballot.identity}">'
            f'<p class="asked" lang="zh-CN">{escape(row.input)}</p>'
            f'<div class="pair">{side(ballot, 0, voted)}{side(ballot, 1, voted)}</div>{reference}'
            f'<p class="verdict" role="status">{said}</p>'
            f'<div class="choices" role="group" tabindex="-1" aria-label="投票 Vote">{buttons}</div>{next_button()}'
            f'</div>{result}')


def next_button() -> str:
    return (f'<p class="more"><button type="button" data-another="" aria-keyshortcuts="N">'
            f'{both("换一题", "Another pair")} <kbd>N</kbd></button></p>')


def draw_waiting(result: str) -> str:
    empty = '<article class="side"><h3>&nbsp;</h3><div class="text ghost"><i></i><i></i><i></i></div></article>' * 2
    return (f'<div class="ballot" data-state="writing"><p class="asked" role="status">{both(*WRITING)}</p>'
            f'<div class="pair" aria-hidden="true">{empty}</div></div>{result}')


def problem(html: str) -> str:
    """A sentence that went wrong. Give it escaped text."""
    return f'<p class="problem" role="alert">{html}</p>'


def draw_problem(html: str, result: str) -> str:
    return f'<div class="ballot" data-state="problem">{problem(html)}{next_button()}</div>{result}'


def draw_tally(tally: Tally) -> str:
    """How often adapted was preferred, with the interval, all four counts, and the export."""
    found, sided = tally.preferred, tally.better + tally.worse
    big = (f'<strong>{found.value:.0%}</strong> <span class="fine">95%: {found.low:.0%} … {found.high:.0%}</span>'
           if found else "<strong>–</strong>")
    what = both(f"更喜欢适配后的比例，只算选了一边的票（{sided} 票），区间按 Wilson",
                f"preferred the adapted answer, of those who chose a side (votes: {sided}); Wilson's interval")
    parts = (("adapted", tally.better, "适配后更好", "adapted better"), ("both", tally.both, "都好", "both"),
             ("neither", tally.neither, "都不好", "neither"), ("base", tally.worse, "原模型更好", "base better"))
    bar = "".join(f'<i data-part="{name}" style="flex-grow:{count}"></i>' for name, count, *_ in parts if count)
    legend = "".join(f'<li data-part="{name}"><b>{count}</b> {both(zh, en)}</li>' for name, count, zh, en in parts)
    kept = both("只记下问题、回答和判断，不记名字和地址。", "Kept: question, answers, verdict. No name, no address.")
    save = "".join(f'<button type="button" data-export="{kind}">{name}</button>'
                   for kind, name in (("csv", "CSV"), ("jsonl", "JSON lines")))
    return (f'<section class="tally"><h3>{both("到目前为止", "So far")}</h3><p>{big}</p><p class="fine">{what}</p>'
            f'<div class="bar" aria-hidden="true">{bar}</div><ul>{legend}</ul>'
            f'<div class="export"><span class="fine">{kept}</span>{save}</div></section>')
