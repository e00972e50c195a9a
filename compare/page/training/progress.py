"""A training as HTML: how far it is, its loss as a curve, what it answers by now, and its checkpoints to compare.

Reads a job's files by way of job.py, and which checkpoints are columns from workshop.py. All text
of rows and models is escaped.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from html import escape

from compare.page.shared.loss_curve import Loss, Scale, curves, smoothed
from compare.page.shared.question import FIRST_QUESTION, Asked
from compare.page.shared.words import both
from compare.server.trainings.job import Job, Probe
from compare.server.trainings.trainings import Workshop

STATES = {
    "starting": ("正在准备：读题、装模型", "getting ready: reading the rows, loading the base"),
    "running": ("正在训练", "training"),
    "stopping": ("正在停下：先做完这一步并存好", "stopping: it finishes its step and saves first"),
    "done": ("练完了", "done"), "stopped": ("停下了，进度已存", "stopped, its work is saved"),
    "failed": ("没有练成", "it failed"),
}
NOT_SAVED = ("停下了，还没有存过", "stopped before anything was saved")
NOTHING = ("这里还没有训练过。选好题目，按“开始训练”：十步不到一分钟。",
           "Nothing was trained here yet. Choose rows and press Start: ten steps take less than a minute.")
EARLIER = 3  # earlier answers of one question that are shown


def button(do: str, zh: str, en: str) -> str:
    return f'<button type="button" data-do="{do}">{both(zh, en)}</button>'


def clock(seconds: float | None) -> str:
    """Minutes and seconds, "1:05"; a dash where it is not known."""
    if seconds is None:
        return "—"
    whole = round(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def figures(job: Job, seconds_left: float | None) -> str:
    """Step, loss, speed and the time left, in large type."""
    last: dict = next((record for record in reversed(job.log()) if "loss" in record), {})
    loss, speed = last.get("loss"), last.get("tokens_per_second")
    shown = [("step", both("步", "step"), f"{job.step():,}<small> / {job.plan.steps:,}</small>"),
             ("loss", both("损失", "loss"), f"{loss:.3f}" if isinstance(loss, float) else "—"),
             ("speed", both("token/秒", "tokens/s"), f"{speed:,.0f}" if isinstance(speed, float) else "—"),
             ("left", both("还要", "time left"), clock(seconds_left))]
    return "".join(f'<div><dt>{name}</dt><dd data-figure="{key}">{value}</dd></div>' for key, name, value in shown)


def curve(losses: Sequence[Loss], steps: int, checkpoints: Sequence[int]) -> str:
    """Loss over steps, from step 0 to the plan's last: raw faint, running mean bold, a line a checkpoint."""
    lines = "".join(f'<i class="line" style="left:{100 * step / steps:.2f}%"></i>' for step in checkpoints)
    if len(losses) < 2:
        return f'<div class="plot">{lines}<p class="fine none">{both("还没有损失", "no loss yet")}</p></div>'
    scale = Scale.of(losses)

    def path(points: Sequence[Loss]) -> str:
        return " ".join(f"{100 * p.step / steps:.2f},{scale.top(p.loss):.2f}" for p in points)

    mean = smoothed(losses)
    return (f'<div class="plot" data-losses="{len(losses)}">{lines}{curves(scale, path(losses), path(mean))}'
            f'<i class="marker" style="left:{100 * mean[-1].step / steps:.2f}%;'
            f'top:{scale.top(mean[-1].loss):.2f}%"></i></div>'
            f'<p class="ends"><span>0</span>{both("步", "step")}<span>{steps:,}</span></p>')


def turns(probes: Sequence[Probe]) -> list[list[Probe]]:
    """For each question, in order, its answers; one that only says again what the one before said is left out."""
    found: dict[str, list[Probe]] = {}
    for probe in probes:
        said = found.setdefault(probe.question, [])
        if not said or (said[-1].answer, said[-1].finish) != (probe.answer, probe.finish):
            said.append(probe)
    return list(found.values())


def answer(probe: Probe, latest: bool) -> str:
    cut = "" if probe.finish == "stop" else f' <span class="cut">✂ {both("没停下", "cut")}</span>'
    kind = "latest" if latest else "earlier"
    return (f'<li class="{kind}"><small>{both(f"第 {probe.step} 步起", f"since step {probe.step}")}</small>'
            f'<span lang="zh-CN">{escape(probe.answer) or "—"}</span>{cut}</li>')


def learning(probes: Sequence[Probe]) -> str:
    """Each probe question with what it is answered now, and under it what it was answered before."""
    if not probes:
        return f'<p class="fine">{both("还没有问过。", "Not asked yet.")}</p>'
    blocks = []
    for said in turns(probes):
        shown = "".join(answer(probe, i == 0) for i, probe in enumerate(reversed(said[-1 - EARLIER:])))
        blocks.append(f'<article data-turns="{len(said)}"><h4 lang="zh-CN">{escape(said[0].question)}</h4>'
                      f"<ol>{shown}</ol></article>")
    return "".join(blocks)


def columns(shop: Workshop, job: Job) -> str:
    """Every checkpoint as a link that opens Compare with it as a column; one that is none says why."""
    probes = job.probes()
    question, chips = probes[0].question if probes else FIRST_QUESTION, []
    for path in job.adapters():
        final = path == job.output
        name = both("最后", "final") if final else both(f"第 {path.name[11:]} 步", f"step {path.name[11:]}")
        if column := shop.column(path):
            link = Asked(question, extras=(f"{column}@1",)).link() or "?"
            chips.append(f'<a class="column" href="{escape(link)}" data-column="{escape(column)}">{name} '
                         f'<span aria-hidden="true">→</span></a>')
        else:
            why = shop.problems.get(str(path), "正在载入 · loading")
            chips.append(f'<span class="column" data-column="" title="{escape(why)}">{name}</span>')
    none = f'<p class="fine">{both("还没有存过。", "None saved yet.")}</p>'
    return f'<div class="columns">{"".join(chips)}</div>' if chips else none


def said_of(state: str, job: Job) -> tuple[str, str]:
    return NOT_SAVED if state == "stopped" and not job.checkpoints() else STATES[state]


def by_hand(job: Job) -> str:
    """How to use the result without this page."""
    command = f"python -m compare --adapter {shlex.quote(str(job.adapters()[-1]))}" if job.adapters() else ""
    return (f'<details><summary>{both("在命令行里用它", "Use it on the command line")}</summary>'
            f'<pre tabindex="0"><code>{escape(command)}</code></pre></details>' if command else "")


def draw(shop: Workshop) -> str:
    """The newest training, or that there is none."""
    job = shop.current()
    if job is None:
        return f'<p class="empty">{both(*NOTHING)}</p>'
    state = job.state()
    rows = escape(job.plan.rows) or both("自带的问答", "the shipped rows")
    do = button("stop", "停止", "Stop") if state in ("starting", "running") else ""
    do += button("resume", "继续训练", "Resume") if state in ("stopped", "failed") else ""
    problem = f'<p class="problem" role="alert">{escape(job.last_words())}</p>' if state == "failed" else ""
    left = shop.seconds_left(job) if state == "running" else None
    share = 100 * job.step() / job.plan.steps
    return (f'<div class="job" data-state="{state}" data-number="{job.number}"><header><h3>'
            f'{both(f"训练 {job.number}", f"Training {job.number}")}<span class="state" role="status">'
            f'{both(*said_of(state, job))}</span></h3><p class="fine">{rows} · {escape(job.plan.recipe)}</p>'
            f'<div class="do">{do}</div></header>{problem}'
            f'<div class="bar" role="progressbar" aria-label="训练进度 Progress" aria-valuemin="0" '
            f'aria-valuemax="{job.plan.steps}" aria-valuenow="{job.step()}"><i style="width:{share:.1f}%"></i></div>'
            f'<dl class="figures">{figures(job, left)}</dl>'
            f'<figure><figcaption>{both("损失（每个 token，nat）", "Loss (nats a token)")}</figcaption>'
            f'{curve(job.losses(), job.plan.steps, job.checkpoints())}</figure>'
            '<section class="checkpoints"><h4>'
            f'{both("检查点：点一个，当作一列来比", "Checkpoints: open one as a column")}</h4>'
            f'{columns(shop, job)}{by_hand(job)}</section><section class="learning"><h3>'
            f'{both("它现在怎么答", "What it answers by now")}</h3>'
            f"{learning(job.probes())}</section></div>")
