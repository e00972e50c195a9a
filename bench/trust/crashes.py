"""SIGKILL at random moments: what was acknowledged is there, what is there loads, and the same command goes on.

Training and evaluation are killed again and again in one output directory, each time gone on with, and voting in one
file; merging, which has no state, begins anew. A power cut is more than this: it also loses what the system had not yet
written.
"""

from __future__ import annotations

import json
import random
import re
import shutil
import tempfile
import time
from pathlib import Path

from bench.shared.random_base import write_random_base
from bench.trust.found import Found, Progress
from bench.trust.killing import kill_after, run_whole
from bench.trust.voting import kill_voting
from lens.adapter.write import PART
from lens.embedded import EMBEDDED_ADAPTER
from train.checkpoint import checkpoints, fault
from train.record.log import read_log

SAVE = 4  # steps between checkpoints, where it is not they that are killed
MOST = 12  # steps that a process does before it is killed
NEVER = 1_000_000  # steps: the run ends only by a kill


# ---- training


def training(folder: Path, base: Path, save: int, steps: int = NEVER) -> list[object]:
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
        save,
        "--logging-steps",
        1,
        "--probe-steps",
        0,
    ]


def after_kill(out: Path, said: str, save: int, found: Found) -> int:
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
    found.check(kept >= (reached // save - 1) * save, f"step {reached} was reached, the last checkpoint is {kept}")
    return reached


def kill_runs(count: int, folder: Path, found: Found, r: random.Random, in_checkpoints: bool) -> tuple[int, int]:
    """Kill a training `count` times, then let it finish; the last step acknowledged, and how often a checkpoint was
    caught half written."""
    base, out, save = folder / "base", folder / "out", 1 if in_checkpoints else SAVE
    write_random_base(base, vocab_size=8064, hidden_size=32, n_layer=2, n_head=4)
    name = "checkpointing" if in_checkpoints else "training"
    progress, reached, halves = Progress(f"crashes, {name}", count, "kills"), 0, 0
    for i in range(count):
        command = training(folder, base, save) + (["--resume"] if i else [])
        began, steps = time.time(), r.randint(1, MOST)  # by steps: a loaded machine does not get far in a second

        def ready(said: str, began: float = began, steps: int = steps) -> bool:
            return said.count("\nstep ") >= steps and (not in_checkpoints or is_writing(out / PART, began))

        done = kill_after(folder, r.random() * (0.1 if in_checkpoints else 0.5), ready, *command)
        found.check(done.returncode == -9, f"{name} ended by itself with {done.returncode}: {done.said[-300:]}")
        reached = after_kill(out, done.said, save, found)
        halves += is_writing(out / PART, began)
        progress.at(i + 1, f"step {reached}")
    done = run_whole(folder, *training(folder, base, save, reached + save), "--resume")
    found.check(
        done.returncode == 0 and (out / "adapter_model.safetensors").is_file() and not (out / PART).exists(),
        f"the run does not go on after kills in {name}: {done.said[-300:]}",
    )
    steps = [record["step"] for record in read_log(out / "log.jsonl") if "loss" in record]
    found.check(steps == list(range(1, reached + save + 1)), f"the finished log has steps {steps[:3]} to {steps[-3:]}")
    return reached, halves


def is_writing(part: Path, since: float) -> bool:
    """Is there something half written that this process made, and none before it?"""
    try:
        return part.stat().st_mtime > since
    except FileNotFoundError:
        return False


def kill_training(count: int, folder: Path, found: Found, seed: int = 0) -> None:
    reached, _ = kill_runs(count, folder, found, random.Random(seed), in_checkpoints=False)
    found.figures |= {
        "kills in training": count,
        "steps acknowledged and kept": reached,
        "checkpoints found whole": len(checkpoints(folder / "out")),
    }


def kill_checkpointing(count: int, folder: Path, found: Found, seed: int = 0) -> None:
    """A checkpoint at every step, and the kill within a tenth of a second after one was begun."""
    _, halves = kill_runs(count, folder, found, random.Random(seed), in_checkpoints=True)
    found.figures |= {"kills in checkpointing": count, "of these with a checkpoint half written": halves}


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
    for kill in (kill_training, kill_checkpointing, kill_merging, kill_evaluating, kill_voting):
        with tempfile.TemporaryDirectory() as folder:
            kill(count, Path(folder), found)
    return found
