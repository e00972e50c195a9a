"""One training: a directory, the process that runs it, and how far it is, read from the files alone.

    run-3/
      plan.json       what was asked, so that it can be resumed by whoever finds it
      rows.jsonl      the uploaded rows, where there were any
      process.json    which process runs it, or ran it last
      stop            there once somebody asked it to stop
      said.txt        what it said since it was last started
      trained-3/      the adapter directory that `python -m train` writes: log.jsonl, probes.jsonl, checkpoint-N/

Nothing of it is kept in memory, so a training is found again after a reload of the page, and after a restart of the
server.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shlex
import signal
import subprocess
import sys
import threading
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil  # comes with accelerate

from compare.server.trainings.declared import ROOT, as_options

FINAL = "adapter_config.json"  # the last file that a finished training moves into its adapter directory
# What an adapter consists of for whoever gets it.
SHARED = (FINAL, "adapter_model.safetensors", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja",
          "training.json", "README.md", "loss.png")
SAME = 10  # seconds by which two tellings of when a process began may differ: clocks are set
NICE = 19  # the page comes first
MOST_SAID = 20_000  # bytes of what a process said, from the end
RECORDS, CHECKPOINTS, PROBES = 100, 5, 10  # of a training, about how many of each


@dataclass(frozen=True)
class Plan:
    """What a training was asked to do. `rows`: the uploaded file's name for people, "" for the shipped rows;
    `file`: the name that it has in the job's directory."""

    base: str
    recipe: str
    steps: int
    rows: str = ""
    file: str = ""
    skip_bad_rows: bool = False
    device: str = "auto"
    threads: int = 1
    options: dict[str, Any] = field(default_factory=dict)  # settings that are others than the recipe's

    def command(self, module: str, folder: Path) -> list[str]:
        """`python -m module` with the options of `python -m train`, all but `--output`; `folder`: where `file` lies.

        A short run warms up over a tenth of its steps.
        """
        every = {"--save-steps": self.steps / CHECKPOINTS, "--logging-steps": self.steps / RECORDS,
                 "--probe-steps": self.steps / PROBES}
        given = [sys.executable, "-m", module, "--base", self.base, "--recipe", self.recipe,
                 "--warmup-steps", str(min(100, self.steps // 10)), "--device", self.device,
                 *as_options({"max_steps": self.steps, **self.options})]
        for name, steps in every.items():
            given += [name, str(max(1, math.ceil(steps)))]
        if self.file:
            given += ["--data", str(folder / self.file)]
        return given + ["--skip-bad-rows"] * self.skip_bad_rows

    def told(self) -> str:
        """The command that does the same elsewhere, to be copied into a terminal."""
        command = replace(self, file=self.rows).command("train", Path())
        return shlex.join(["python", *command[1:], "--output", "runs/mine"])


@dataclass(frozen=True)
class Probe:
    """One probe question's answer after some steps; `finish` is "stop" or "length"."""

    step: int
    question: str
    answer: str
    finish: str


def read_records(path: Path) -> list[dict]:
    """The objects of a JSON-lines file; a line that is not whole yet is left out."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        try:
            found.append(json.loads(line))
        except ValueError:
            break
    return [record for record in found if isinstance(record, dict) and isinstance(record.get("step"), int)]


def start(command: Sequence[str], threads: int = 1, **streams) -> subprocess.Popen:
    """A child process that outlives this one and yields the processor to it. `streams`: Popen's stdout and stderr."""
    few = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    environment = {**os.environ, **few, "TOKENIZERS_PARALLELISM": "false", "PYTHONIOENCODING": "utf-8"}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, start_new_session=True,
                               **streams)
    with contextlib.suppress(psutil.Error):  # it may have ended by now
        psutil.Process(process.pid).nice(NICE if os.name == "posix" else psutil.IDLE_PRIORITY_CLASS)
    return process


def read_end(path: Path, most: int = MOST_SAID) -> str:
    """The last bytes of a text file; "" where there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - most))
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""


@dataclass(frozen=True)
class Job:
    """The training in a directory `run-N`."""

    folder: Path

    @property
    def number(self) -> int:
        return int(self.folder.name.removeprefix("run-"))

    @property
    def output(self) -> Path:
        return self.folder / f"trained-{self.number}"

    @cached_property
    def plan(self) -> Plan:
        """Raises OSError, ValueError or TypeError where it cannot be read."""
        return Plan(**json.loads((self.folder / "plan.json").read_text(encoding="utf-8")))

    def write(self, plan: Plan) -> None:
        (self.folder / "plan.json").write_text(json.dumps(asdict(plan), ensure_ascii=False), encoding="utf-8")

    def command(self) -> list[str]:
        """Goes on where there is something to go on from."""
        command = [*self.plan.command("train", self.folder), "--output", str(self.output)]
        return command + ["--resume"] * (bool(self.checkpoints()) or (self.output / "log.jsonl").exists())

    def run(self) -> None:
        """Start the process, or start it again."""
        (self.folder / "stop").unlink(missing_ok=True)
        with (self.folder / "said.txt").open("wb") as said:
            process = start(self.command(), self.plan.threads, stdout=subprocess.DEVNULL, stderr=said)
        known = psutil.Process(process.pid)
        record = {"pid": process.pid, "created": known.create_time()}
        (self.folder / "process.json").write_text(json.dumps(record), encoding="utf-8")
        threading.Thread(target=process.wait, daemon=True).start()  # so that it leaves no zombie

    def process(self) -> psutil.Process | None:
        """The process that runs it now; None where it has ended, or another one has its number."""
        try:
            record = json.loads((self.folder / "process.json").read_text(encoding="utf-8"))
            found = psutil.Process(record["pid"])
            same = abs(found.create_time() - record["created"]) < SAME
            return found if same and found.status() != psutil.STATUS_ZOMBIE else None
        except (OSError, ValueError, KeyError, TypeError, psutil.Error):
            return None

    def stop(self) -> None:
        """Ask it to finish its step, save a checkpoint and end. Nothing happens where it has ended."""
        if process := self.process():
            (self.folder / "stop").touch()
            process.send_signal(signal.SIGTERM)  # SIGINT is ignored below a shell's &

    @property
    def finished(self) -> bool:
        return (self.output / FINAL).is_file()

    def state(self) -> str:
        """"starting", "running", "stopping"; "done", "stopped", or "failed"."""
        asked = (self.folder / "stop").exists()
        if self.process():
            return "stopping" if asked else "running" if self.step() else "starting"
        if self.finished and self.step() >= self.plan.steps:
            return "done"
        return "stopped" if asked or self.last_words().startswith("interrupted") else "failed"

    def pack(self, folder: Path) -> Path:
        """The newest adapter as a zip in `folder`, without what only going on needs."""
        adapter = self.adapters()[-1]
        path = folder / f"{self.output.name}.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
            for name in SHARED:
                if (adapter / name).is_file():
                    packed.write(adapter / name, f"{self.output.name}/{name}")
        return path

    def checkpoints(self) -> list[int]:
        """The steps at which its adapter was saved whole."""
        steps = (path.name.removeprefix("checkpoint-") for path in self.output.glob("checkpoint-*"))
        return sorted(int(step) for step in steps if step.isdigit())

    def adapters(self) -> list[Path]:
        """Every adapter directory that it has written so far, the final one last."""
        return [self.output / f"checkpoint-{step}" for step in self.checkpoints()] + [self.output] * self.finished

    def log(self) -> list[dict]:
        return read_records(self.output / "log.jsonl")

    def step(self) -> int:
        """The last step that is known of."""
        return max([0, *(record["step"] for record in self.log()), *self.checkpoints()])

    def losses(self) -> list[tuple[int, float]]:
        """(step, loss) of what was logged and can be drawn."""
        found = ((record["step"], record.get("loss")) for record in self.log())
        return [(step, loss) for step, loss in found if isinstance(loss, float) and 0 < loss < math.inf]

    def probes(self) -> list[Probe]:
        found = read_records(self.output / "probes.jsonl")
        return [Probe(r["step"], *(str(r.get(key, "")) for key in ("question", "answer", "finish"))) for r in found]

    def last_words(self) -> str:
        """The last line that it said, an `error: ` before others, without the paths of this machine."""
        said = last_line(read_end(self.folder / "said.txt").encode())
        paths = {str(self.folder / self.plan.file): self.plan.rows} if self.plan.file else {}
        for path, shown in {**paths, f"{self.output}/": "", str(self.output): "it"}.items():
            said = said.replace(path, shown)
        return said


def last_line(said: bytes) -> str:
    """The last line of what a process of `python -m train` said, an `error: ` before others."""
    lines = [line for line in said.decode("utf-8", "replace").splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("error: ")]
    return ([*lines, *errors] or [""])[-1].removeprefix("error: ")


def find_jobs(home: Path) -> Sequence[Job]:
    """The trainings below `home`, the newest last."""
    named = (path for path in home.glob("run-*") if path.name.removeprefix("run-").isdigit())
    jobs = sorted(map(Job, named), key=lambda job: job.number)
    return [job for job in jobs if (job.folder / "plan.json").is_file()]
