"""The trainings of one server: started one at a time, found again, stopped, resumed, each checkpoint made a column.

A training is a directory below `home` and a child process (job.py); what this module keeps in memory is only its pace
and which of its checkpoints the engine has.
"""

from __future__ import annotations

import os
import re
import shutil
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from compare.engine.interface import Engine
from compare.server.permissions import Permission
from compare.server.trainings import memory
from compare.server.trainings.declared import changed
from compare.server.trainings.job import Job, Plan, find_jobs
from compare.server.uploads import uploaded
from lens.data_home import data_home
from lens.errors import BadSetting, LensError, Unavailable, first_line

RECIPES = ("lens", "seed")
STEPS = (1, 10_000)
ENDINGS = (".jsonl", ".json", ".csv", ".tsv", ".parquet")
LOOK = 1.0  # seconds between two looks at a training under way
PACE = 30  # looks at which a step was seen, from which the time left is told
SMALL = 30_000_000  # parameters; below, a training has one thread, for the page's sake


@dataclass(frozen=True)
class Upload:
    """A file of rows as Gradio stored it, and the name that its owner knows it by."""

    path: Path
    name: str

    @classmethod
    def of(cls, path: str | None, folder: Path) -> Upload:
        """The file at `path` inside Gradio's upload `folder`. Raises BadSetting for none, or another file."""
        if not path:
            raise BadSetting("training-no-file")
        found = Path(path)
        whole = uploaded(path, folder)
        if whole is None:
            raise BadSetting("training-file", value=repr(found.name[:80]))
        if whole.suffix.lower() not in ENDINGS:
            raise BadSetting("training-setting", name="file", value=repr(found.name[:80]), allowed=", ".join(ENDINGS))
        return cls(whole, found.name)


def trainings_home(environ: Mapping[str, str] = os.environ) -> Path:
    """`LENS_TRAININGS`, else the user's own data directory."""
    if named := environ.get("LENS_TRAININGS"):
        return Path(named).expanduser().resolve()
    return data_home(environ) / "trainings"


class Trainings:
    """Trainings of the engine's base. Its methods that change something raise LensError; whether the one who asks may
    is `permission`'s to say."""

    def __init__(self, engine: Engine, permission: Permission, home: Path | None = None):
        self.engine, self.permission, self.home = engine, permission, home or trainings_home()
        base = engine.facts.base
        self.base = str(Path(base).resolve()) if Path(base).is_dir() else base
        self.lock = threading.Lock()
        self.pace: deque[tuple[float, int]] = deque(maxlen=PACE)  # (seconds, step) as they were seen
        self.problems: dict[str, LensError] = {}  # adapter directory → why it is no column
        self.watched: int | None = None
        if not permission.closed and (job := self.current()):
            self.watch(job)

    def current(self) -> Job | None:
        """The newest training of this base."""
        return next((job for job in reversed(find_jobs(self.home)) if self.is_of_this_base(job)), None)

    def is_of_this_base(self, job: Job) -> bool:
        try:
            return job.plan.base == self.base
        except (OSError, ValueError, TypeError):
            return False

    def check(self) -> None:
        """Is there memory for one more? Raises Unavailable."""
        if busy := next((job for job in find_jobs(self.home) if job.process()), None):
            raise Unavailable("training-under-way", number=busy.number, step=busy.step())
        needed = memory.of_training(self.engine.facts)
        if needed > (free := memory.free(self.engine.facts.device)):
            raise Unavailable("training-memory", needed=f"{needed / 1e9:.1f}", free=f"{free / 1e9:.1f}")

    def plan(self, recipe: str, steps: object, upload: Upload | None = None, skip_bad_rows: bool = False,
             values: Mapping[str, Any] | None = None) -> Plan:
        """What would be done with these settings; its file is the upload itself. `values`: of the settings that
        `declared.offered` names; an adapter to start from by the name of its column."""
        if recipe not in RECIPES:
            raise BadSetting("training-setting", name="recipe", value=repr(recipe)[:40], allowed=", ".join(RECIPES))
        low, high = STEPS
        if not isinstance(steps, int | float) or isinstance(steps, bool) or not low <= steps <= high or steps % 1:
            raise BadSetting("training-setting", name="steps", value=repr(steps)[:40], allowed=f"{low} – {high:,}")
        threads = 1 if self.engine.facts.parameters < SMALL else max(1, (os.cpu_count() or 2) // 2)
        options = changed(recipe, values or {})
        if name := options.get("from_adapter"):
            if name not in self.engine.adapters:
                raise BadSetting("training-setting", name="from_adapter", value=repr(name)[:40],
                                 allowed=", ".join(self.engine.adapters) or "—")
            options["from_adapter"] = str(self.engine.adapters[name].path)
        options.pop("epochs", None)  # the tab has made steps of them, by which a training's progress is told
        return Plan(self.base, recipe, int(steps), upload.name if upload else "", str(upload.path) if upload else "",
                    bool(skip_bad_rows), self.engine.facts.device.partition(":")[0], threads, options)

    def start(self, recipe: str, steps: object, upload: Upload | None = None, skip_bad_rows: bool = False,
              values: Mapping[str, Any] | None = None) -> Job:
        """Begin a training of the shipped rows, or of a copy of the uploaded ones."""
        plan = self.plan(recipe, steps, upload, skip_bad_rows, values)
        with self.lock:
            self.check()
            job = self.new_job()
            if upload:
                plan = replace(plan, file=f"rows{upload.path.suffix.lower()}")
                shutil.copyfile(upload.path, job.folder / plan.file)
            job.write(plan)
            job.run()
        self.watch(job)
        return job

    def new_job(self) -> Job:
        """A directory with the next number."""
        self.home.mkdir(parents=True, exist_ok=True)
        numbers = [int(match[1]) for path in self.home.iterdir() if (match := re.fullmatch(r"run-(\d+)", path.name))]
        job = Job(self.home / f"run-{max(numbers, default=0) + 1}")
        job.folder.mkdir()
        return job

    def stop(self) -> None:
        """Ask the training under way to save and end."""
        if job := self.current():
            job.stop()

    def resume(self, more: int = 0) -> Job:
        """Go on with the newest training from its last checkpoint; one that is done, for `more` steps."""
        with self.lock:
            job = self.current()
            if job is None or job.state() not in ("stopped", "failed", "done") or job.state() == "done" and more < 1:
                raise Unavailable("training-nothing-to-resume")
            self.check()
            if job.state() == "done":
                job.write(replace(job.plan, steps=job.plan.steps + more))
                job = Job(job.folder)  # which reads its plan anew
            job.run()
        self.watch(job)
        return job

    def pack(self, folder: Path) -> Path:
        """The newest training's adapter as a zip in `folder`. Raises Unavailable where there is none."""
        job = self.current()
        if job is None or not job.adapters():
            raise Unavailable("training-nothing-saved")
        return job.pack(folder)

    def delete(self) -> None:
        """Remove the newest training and all that it saved; columns of it stay until the server ends."""
        with self.lock:
            job = self.current()
            if job is None or job.process():
                raise Unavailable("training-not-deleted")
            shutil.rmtree(job.folder)

    def watch(self, job: Job) -> None:
        """Follow a training in a thread of its own, until it ends."""
        self.watched = job.number
        self.pace.clear()
        threading.Thread(target=self.follow, args=(job,), name=f"training {job.number}", daemon=True).start()

    def follow(self, job: Job) -> None:
        under_way = True
        while under_way:
            under_way = job.process() is not None  # first of all: what it wrote before it ended is seen below
            step = job.step()
            if not self.pace or step > self.pace[-1][1]:
                self.pace.append((time.monotonic(), step))
            for path in job.adapters():
                self.take(path)
            if under_way:
                time.sleep(LOOK)

    def take(self, path: Path) -> None:
        """Make a checkpoint a column, once."""
        if str(path) in self.problems or self.column(path):
            return
        try:
            self.engine.load_adapter(path)
        except LensError as err:
            self.problems[str(path)] = err
        except (OSError, RuntimeError) as err:
            self.problems[str(path)] = Unavailable("training-column", reason=first_line(err))

    def column(self, path: Path) -> str | None:
        """The name that an adapter directory has in the engine; None where it is not there."""
        return next((name for name, adapter in self.engine.adapters.items() if adapter.path == path), None)

    def seconds_left(self, job: Job) -> float | None:
        """By the pace so far; None where that is not known."""
        seen = list(self.pace) if self.watched == job.number else []
        if len(seen) < 3 or seen[-1][1] <= seen[1][1]:
            return None
        (began, first), (now, last) = seen[1], seen[-1]  # what was seen first may be long before the first step
        left = (job.plan.steps - last) * (now - began) / (last - first) - (time.monotonic() - now)
        return max(0.0, left)

    def close(self) -> Job | None:
        """When the server ends: ask what it may have started to save and end; returns that training."""
        job = None if self.permission.closed else self.current()
        if job is None or job.process() is None:
            return None
        job.stop()
        return job
