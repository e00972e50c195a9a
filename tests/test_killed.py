"""Killed at any moment of its file work (SIGKILL: nothing can be tidied), a run goes on to the very same adapter, and
nothing half written is ever taken for whole. MOMENTS=50 in the long form."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from training import run

from lens.adapter.directory import read_adapter
from lens.adapter.find import CONFIG
from train.checkpoint import checkpoints, last_whole

pytestmark = pytest.mark.slow
MOMENTS = int(os.environ.get("MOMENTS", "10"))
# Runs `python -m MODULE …`; kills itself the N-th time that it opens, renames or removes something below a folder.
KILLED = """
import os, runpy, signal, sys
left, place, module = int(sys.argv[1]), sys.argv[2], sys.argv[3]
WATCHED = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir"}
def watch(event, args):
    global left
    if event in WATCHED and args and str(args[0]).startswith(place):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(watch)
sys.argv = sys.argv[3:]
runpy.run_module(module, run_name="__main__")
"""


def killed(after: int, place: Path, *command: object) -> bool:
    """Was it killed, rather than done before that?"""
    done = subprocess.run([sys.executable, "-c", KILLED, str(after), str(place), *map(str, command)],
                          capture_output=True, text=True, timeout=300)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode != 0


@pytest.fixture(scope="module")
def options(tiny_base, tmp_path_factory) -> list[object]:
    rows = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    rows.write_text("\n".join(json.dumps({"input": f"第{i}问", "output": "规格严格" * (i + 1)}) for i in range(6)))
    return ["--base", tiny_base, "--data", rows, "--max-steps", 12, "--batch", 2, "--save-steps", 2, "--logging-steps",
            1, "--warmup-steps", 2, "--probe-steps", 0, "--save-total-limit", 2, "--device", "cpu", "--learning-rate",
            0.02]


@pytest.fixture(scope="module")
def unbroken(options, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("unbroken") / "out"
    done = run("train", *options, "--output", out)
    assert done.returncode == 0, done.stderr
    return out


def test_a_training_killed_again_and_again_gives_the_same_adapter(options, unbroken, tmp_path):
    out, luck, kills = tmp_path / "out", random.Random(0), 0
    for _ in range(MOMENTS):
        going_on = ["--resume"] if (out / "log.jsonl").exists() else []
        kills += killed(luck.randint(1, 90), out, "train", *options, "--output", out, *going_on)
        for adapter in [*checkpoints(out), *([out] if (out / CONFIG).is_file() else [])]:
            assert "adapter-weights-changed" not in {note.code for note in read_adapter(adapter).notes}
        if going_on and checkpoints(out):
            assert last_whole(out), "there is always one to go on from"
    done = run("train", *options, "--output", out, *(["--resume"] if (out / "log.jsonl").exists() else []))
    assert done.returncode == 0, done.stderr
    assert kills > MOMENTS // 2
    for name in ("adapter_model.safetensors", "checkpoint-6/adapter_model.safetensors", "checkpoint-12/optimizer.pt"):
        assert (out / name).read_bytes() == (unbroken / name).read_bytes(), name
    ours, theirs = (json.loads((d / "training.json").read_text()) for d in (out, unbroken))
    assert [x["loss"] for x in ours["losses"]] == pytest.approx([x["loss"] for x in theirs["losses"]], abs=1e-6)
    assert (ours["steps"], ours["rows_seen"], ours["changes"]) == (12, 24, [])
    assert not list(out.glob(".part")) and not list(out.glob("old-*"))


def test_a_merge_that_was_killed_leaves_no_model_and_can_be_made_again(options, unbroken, tmp_path):
    out, luck = tmp_path / "merged", random.Random(1)
    for _ in range(max(2, MOMENTS // 5)):
        if killed(luck.randint(1, 40), out, "train.merge", unbroken, "--base", options[1], "--output", out):
            assert not out.exists()
            continue
        break
    if not out.exists():
        assert run("train.merge", unbroken, "--base", options[1], "--output", out).returncode == 0
    assert json.loads((out / "merge.json").read_text())["largest_logit_difference"] < 1e-3
    assert not out.with_name("merged.part").exists()
