"""What a training would learn from some rows, before it does: counts, checks, a histogram of tokens, the first rows.

A child process reads and encodes them (`python -m train.check`), the very code that trains; this module starts it and
draws what it says.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from compare.page.shared.words import Words, both
from compare.server.permissions import Refused
from compare.server.trainings.job import GO_ON, Plan, for_people, start

PATIENCE = 180  # seconds that reading the rows may take
BARS = 24  # of the histogram, at most
BAD = Words("这份问答用不了：{said}", "These rows cannot be used: {said}")
BAD_ROW = Words("这份问答里有坏行：{said}。改好它，或勾选“跳过坏行”。",
                "There is a bad row: {said}. Mend it, or tick “skip bad rows”.")
TOO_LONG = Words("{n} 秒还没读完，请换一份小一些的问答。", "Reading took more than {n} s; take a smaller file.")


@dataclass(frozen=True)
class Preview:
    """The object of `python -m train.check`; `lengths`: tokens a row → rows."""

    rows: int
    skipped: int
    first_skipped: str
    refusals: int
    duplicates: int
    cut: int
    max_length: int
    lengths: dict[str, int]
    read: str
    learnt: str
    examples: Sequence[dict[str, str]]
    notes: Sequence[dict[str, str]] = ()


@dataclass(frozen=True)
class Bar:
    """So many rows have `low` to `high` tokens, both included; `high` is None for all that are longer."""

    low: int
    high: int | None
    rows: int


def look(plan: Plan) -> Preview:
    """What this plan's rows would teach. Raises Refused with the sentence of what is wrong with them."""
    command = plan.command("train.check", Path())
    child = start(command, plan.threads, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        out, err = child.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        child.kill()
        child.communicate()
        raise Refused(TOO_LONG, n=PATIENCE) from None
    paths = {plan.file: plan.rows} if plan.file else {}
    said = ([line for line in err.decode("utf-8", "replace").splitlines() if line.strip()] or ["?"])[-1]
    if child.returncode:
        raise Refused(BAD_ROW if GO_ON in said else BAD, said=for_people(said, paths))
    found = Preview(**json.loads(out))
    skipped = for_people(found.first_skipped, paths)
    return Preview(**{**vars(found), "first_skipped": skipped})


def bars(lengths: dict[str, int], max_length: int) -> list[Bar]:
    """The histogram: equal bars, the last of them for all beyond twice `max_length`."""
    counts = {int(length): rows for length, rows in lengths.items()}
    top = min(max(counts), 2 * max_length)
    width = max(1, -(-top // BARS))
    found = []
    for low in range(1 if width == 1 else 0, top + 1, width):
        last = low + width > top and max(counts) > top
        high = None if last else low + width - 1
        found.append(Bar(low, high, sum(n for length, n in counts.items()
                                        if low <= length and (high is None or length <= high))))
    return found


def histogram(preview: Preview) -> str:
    """The bars as HTML; those of rows that are cut have another colour."""
    found = bars(preview.lengths, preview.max_length)
    most = max(bar.rows for bar in found)
    drawn = "".join(f'<i style="height:{max(100 * bar.rows / most, 1.5 if bar.rows else 0):.1f}%" '
                    f'data-cut="{str(bar.low > preview.max_length).lower()}" '
                    f'title="{bar.low}–{bar.high or "…"} token: {bar.rows:,}"></i>' for bar in found)
    tokens = sorted(int(length) for length in preview.lengths)
    name = f"每行多少 token：{tokens[0]} 到 {tokens[-1]} · Tokens a row: {tokens[0]} to {tokens[-1]}"
    return (f'<figure><figcaption>{both("每行多少 token", "Tokens a row")}</figcaption>'
            f'<div class="bars" role="img" aria-label="{name}">{drawn}</div>'
            f'<p class="ends"><span>{found[0].low}</span><span>{tokens[-1]}</span></p></figure>')


def counts(preview: Preview) -> str:
    """How many rows, and everything about them that is worth a look."""
    n, most = f"{preview.rows:,}", preview.max_length
    said = [("good", f"✓ {n} 行可用", f"✓ {n} rows")]
    if preview.cut:
        said.append(("look", f"{preview.cut:,} 行太长，截到 {most} 个 token",
                     f"cut at {most} tokens: {preview.cut:,}"))
    if preview.duplicates:
        said.append(("look", f"{preview.duplicates:,} 行与别的行重复", f"repeating another: {preview.duplicates:,}"))
    if preview.refusals:
        said.append(("look", f"{preview.refusals:,} 个拒答没有用", f"refusals left out: {preview.refusals:,}"))
    if preview.skipped:
        skipped, first = f"{preview.skipped:,}", escape(preview.first_skipped)
        said.append(("bad", f"跳过 {skipped} 个坏行，第一个：{first}",
                     f"bad rows skipped: {skipped}, the first: {first}"))
    known = ("read-as", "refusals-left-out", "bad-rows-skipped", "rows-repeated", "rows-cut")
    said += [("look", escape(note["message_zh"]), escape(note["message"])) for note in preview.notes
             if note["code"] not in known]
    return "".join(f'<li data-level="{level}">{both(zh, en)}</li>' for level, zh, en in said)


def draw(preview: Preview) -> str:
    """All of it as escaped HTML."""
    rows = "".join(f'<div><dt>{escape(row["input"] or row["instruction"])}</dt><dd>{escape(row["output"])}</dd></div>'
                   for row in preview.examples)
    return (f'<div class="preview" data-rows="{preview.rows}"><ul class="counts">{counts(preview)}</ul>'
            f'{histogram(preview)}<dl class="rows" lang="zh-CN">{rows}</dl>'
            f'<details><summary>{both("第一行学什么", "What is learnt of the first row")}</summary>'
            f'<pre tabindex="0"><span class="read">{escape(preview.read)}</span><b>{escape(preview.learnt)}</b></pre>'
            f'<p class="fine">{both("淡的只读，深的才学", "The pale part is read, the dark part learnt")}</p></details>'
            '</div>')
