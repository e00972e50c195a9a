"""SIGKILL at random moments: what was acknowledged is there, what is there loads, and the same command goes on.

Training and evaluation are killed again and again in one output directory, each time gone on with; merging, which has
no state, begins anew. A power cut is more than this: it also loses what the system had not yet written.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.random_base import write_random_base
from bench.trust.found import Found, Progress
from bench.trust.server import ROOT
from compare.settings import EMBEDDED_ADAPTER
from train.checkpoint import checkpoints, fault
from train.log import read_log

SAVE = 4  # steps between checkpoints
PATIENCE = 300  # seconds for a process to begin its work
NEVER = 1_000_000  # steps: the run ends only by a kill


@dataclass
class Killed:
    """One process that was killed, or ended before that: what it had said until then."""

    returncode: int
    said: str


def begin(out: Path, *command: object) -> subprocess.Popen:
    """A module of ours as a process; stdout and stderr go to `out`."""
    with out.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, "-m", *map(str, command)],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"},
        )


def kill_after(folder: Path, delay: float, ready: Callable[[str], bool], *command: object) -> Killed:
    """Run, wait until `ready(what it said)`, wait `delay` seconds more, kill."""
    out = folder / "said.txt"
    process, ends = begin(out, *command), time.monotonic() + PATIENCE
    try:
        while process.poll() is None and not ready(out.read_text(encoding="utf-8", errors="replace")):
            if time.monotonic() > ends:
                raise RuntimeError(f"{command[0]} did not begin within {PATIENCE} s")
            time.sleep(0.02)
        try:
            process.wait(delay)
        except subprocess.TimeoutExpired:
            pass
    finally:
        process.kill()
        process.wait()
    return Killed(process.returncode, out.read_text(encoding="utf-8", errors="replace"))


def run_whole(folder: Path, *command: object) -> Killed:
    process = begin(folder / "said.txt", *command)
    process.wait(PATIENCE)
    return Killed(process.returncode, (folder / "said.txt").read_text(encoding="utf-8", errors="replace"))


# ---- training


def training(folder: Path, base: Path, steps: int = NEVER) -> list[object]:
    rows = folder / "rows.jsonl"
    rows.write_text(
        "\n".join(
            json.dumps({"input": f"第{i}个问题？", "output": f"第{i}个回答。"}, ensure_ascii=False) for i in range(8)
        )
    )
    return [
        "train",
        "--base",
        base,
        "--data",
        rows,
        "--output",
        folder / "out",
        "--max-steps",
        steps,
        "--batch",
        2,
        "--device",
        "cpu",
        "--save-steps",
        SAVE,
        "--logging-steps",
        1,
        "--probe-steps",
        0,
    ]


def after_kill(out: Path, said: str, found: Found) -> int:
    """Check what a killed training left; returns the last step that was acknowledged."""
    told = [int(n) for n in re.findall(r"^step (\d+) of", said, re.MULTILINE)]
    log = [record["step"] for record in read_log(out / "log.jsonl")]
    found.check(not told or (log and log[-1] >= told[-1]), f"step {told[-1:]} was told, but the log ends at {log[-1:]}")
    found.check(log == sorted(set(log)), f"the log's steps are {log[-6:]}")
    whole = checkpoints(out)
    for checkpoint in whole:
        problem = fault(checkpoint)
        found.check(problem is None, f"{checkpoint.name} after a kill: {problem}")
    reached = log[-1] if log else 0
    kept = int(whole[-1].name.removeprefix("checkpoint-")) if whole else 0
    found.check(kept >= (reached // SAVE - 1) * SAVE, f"step {reached} was reached, the last checkpoint is {kept}")
    return reached


def kill_training(count: int, folder: Path, found: Found, seed: int = 0) -> None:
    r, base, out = random.Random(seed), folder / "base", folder / "out"
    write_random_base(base, vocab_size=8064, hidden_size=32, n_layer=2, n_head=4)
    progress, reached = Progress("crashes, training", count, "kills"), 0
    for i in range(count):
        command = training(folder, base) + (["--resume"] if checkpoints(out) else [])
        if i and not checkpoints(out):
            shutil.rmtree(out, ignore_errors=True)
        done = kill_after(folder, r.random() * 1.5, lambda said: "\nstep " in said, *command)
        found.check(done.returncode == -9, f"training ended by itself with {done.returncode}: {done.said[-300:]}")
        reached = after_kill(out, done.said, found)
        progress.at(i + 1, f"step {reached}")
    resume = ["--resume"] if checkpoints(out) else []
    done = run_whole(folder, *training(folder, base, reached + SAVE), *resume)
    found.check(
        done.returncode == 0 and (out / "adapter_model.safetensors").is_file(),
        f"the run does not go on: {done.said[-300:]}",
    )
    steps = [record["step"] for record in read_log(out / "log.jsonl") if "loss" in record]
    found.check(steps == list(range(1, reached + SAVE + 1)), f"the finished log has steps {steps[:3]} to {steps[-3:]}")
    found.figures |= {
        "kills in training": count,
        "steps acknowledged and kept": reached,
        "checkpoints found whole": len(checkpoints(out)),
    }


# ---- merging


def sound_model(directory: Path) -> bool:
    """Does a merged model load, with weights that are numbers?"""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, use_safetensors=True)
    ids = AutoTokenizer.from_pretrained(directory)("问", return_tensors="pt").input_ids
    return bool(model(input_ids=ids).logits.isfinite().all())


def kill_merging(count: int, folder: Path, found: Found, seed: int = 0) -> None:
    """The moments are drawn from the last part of a whole run, in which the model is measured and written."""
    r, out = random.Random(seed), folder / "merged"
    command = ["train.merge", EMBEDDED_ADAPTER, "--output", out]
    began = time.monotonic()
    done = run_whole(folder, *command)
    whole = time.monotonic() - began
    found.check(done.returncode == 0 and sound_model(out), f"merging fails: {done.said[-200:]}")
    progress, finished = Progress("crashes, merging", count, "kills"), 0
    for i in range(count):
        shutil.rmtree(out, ignore_errors=True)
        kill_after(folder, whole * (0.5 + 0.5 * r.random()), lambda said: True, *command)
        finished += out.exists()
        found.check(not out.exists() or sound_model(out), "a killed merge left half a model under its final name")
        progress.at(i + 1)
    shutil.rmtree(out, ignore_errors=True)
    done = run_whole(folder, *command)
    found.check(done.returncode == 0 and sound_model(out), f"merging after kills fails: {done.said[-200:]}")
    found.check(not out.with_name("merged.part").exists(), "merged.part stays behind after a whole run")
    found.figures |= {"kills in merging": count, "of these after the model was whole": finished}


# ---- evaluation


def results(out: Path) -> list[str]:
    """The whole lines of the answers kept so far."""
    path = out / "results.jsonl"
    return path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1] if path.is_file() else []


def kill_evaluating(count: int, folder: Path, found: Found, seed: int = 0, rows: int = 60) -> None:
    r, out = random.Random(seed), folder / "report"
    command = ["compare.evaluate", "--output", out, "--limit", rows, "--max-new-tokens", 32, "--device", "cpu"]
    progress, kept = Progress("crashes, evaluating", count, "kills"), []
    for i in range(count):
        had = len(kept)
        kill_after(folder, r.random() * 2, lambda said, had=had: len(results(out)) > had, *command)
        now = results(out)
        found.check(
            set(kept) <= set(now), f"{len(set(kept) - set(now))} of {len(kept)} kept answers are gone after a kill"
        )
        kept = now
        progress.at(i + 1, f"{len(kept)} answers")
    done = run_whole(folder, *command)
    found.check(
        done.returncode == 0 and (out / "report.html").is_file(), f"evaluating does not go on: {done.said[-300:]}"
    )
    found.check(set(kept) <= set(results(out)), "answers of before the kills are gone from the finished report")
    found.figures |= {"kills in evaluating": count, "answers kept through them": len(kept)}


def run(count: int) -> Found:
    found = Found()
    for kill in (kill_training, kill_merging, kill_evaluating):
        with tempfile.TemporaryDirectory() as folder:
            kill(count, Path(folder), found)
    return found
