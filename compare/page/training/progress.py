"""A training as it stands: how far it is, its loss, what it answers by now, and its checkpoints to compare."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from markupsafe import Markup

from compare.page.frame.words import Words
from compare.page.shared.column_list import AskedColumn, shown_columns
from compare.page.shared.examples import first_question
from compare.page.shared.loss_curve import Loss, draw_curve
from compare.page.shared.request import ComparisonRequest
from compare.page.shared.templates import draw
from compare.server.trainings.job import Job, Probe
from compare.server.trainings.trainings import Trainings

EARLIER = 3  # earlier answers of one question that are shown


def clock(seconds: float | None) -> str:
    """Minutes and seconds, "1:05"; a dash where it is not known."""
    if seconds is None:
        return "—"
    whole = round(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def turns(probes: Sequence[Probe]) -> list[list[Probe]]:
    """For each question, in order, its answers; one that only says again what the one before said is left out."""
    found: dict[str, list[Probe]] = {}
    for probe in probes:
        said = found.setdefault(probe.question, [])
        if not said or (said[-1].answer, said[-1].finish) != (probe.answer, probe.finish):
            said.append(probe)
    return list(found.values())


def checkpoints(trainings: Trainings, job: Job) -> list[dict[str, object]]:
    """Every adapter that was saved; `step` None: the final one; `problem`: why it is no column."""
    probes = job.probes()
    question, instruction = first_question(trainings.engine)
    question = probes[0].question if probes else question
    found: list[dict[str, object]] = []
    shown = shown_columns(trainings.engine)
    for path in job.adapters():
        column = trainings.column(path)
        link = ComparisonRequest(question, instruction, columns=(*shown, AskedColumn(column))).link(instruction) or "?"
        problem = trainings.problems.get(str(path))
        found.append({"step": None if path == job.output else path.name.removeprefix("checkpoint-"), "column": column,
                      "link": link, "problem": str(Words.of(problem)) if problem else ""})
    return found


def draw_progress(trainings: Trainings) -> Markup:
    """The newest training, or that there is none."""
    job = trainings.current()
    if job is None:
        return draw("training/progress", "nothing")
    state, saved, steps = job.state(), job.adapters(), job.plan.steps
    last: dict = next((record for record in reversed(job.log()) if "loss" in record), {})
    loss, speed = last.get("loss"), last.get("tokens_per_second")
    return draw("training/progress", "job", number=job.number, state=state, step=job.step(), steps=steps,
                words="not-saved" if state == "stopped" and not job.checkpoints() else state, rows=job.plan.rows,
                recipe=job.plan.recipe, loss=f"{loss:.3f}" if isinstance(loss, float) else "—",
                speed=f"{speed:,.0f}" if isinstance(speed, float) else "—",
                left=clock(trainings.seconds_left(job) if state == "running" else None),
                curve=draw_curve([Loss(*pair) for pair in job.losses()], lambda step: 100 * step / steps,
                                 job.checkpoints()),
                checkpoints=checkpoints(trainings, job),
                turns=[{"question": said[0].question, "changes": len(said), "probes": said[:-2 - EARLIER:-1]}
                       for said in turns(job.probes())],
                command=f"python -m compare --adapter {shlex.quote(str(saved[-1]))}" if saved else "",
                told=job.plan.told(),
                problem=job.last_words() if state == "failed" else "")
