"""Two processes train as one does: same rows a step, same losses, one set of files, a stop that all agree on."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from train.checkpoint import fault, step_of
from train.interrupt import StopOnSignal
from train.record.log import read_log


def command(processes: int, *args: object) -> list[str]:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    return [sys.executable, *(launcher if processes > 1 else []), "-m", "train", *map(str, args)]


@pytest.fixture
def common(tiny_base, tmp_path) -> list:
    """7 rows of different lengths (so epochs end inside a step), dropout off: its masks depend on the batch."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text("\n".join(json.dumps({"input": f"第{i}问" * (i + 1), "output": "规格严格" * (7 - i)},
                                         ensure_ascii=False) for i in range(7)), encoding="utf-8")
    return ["--base", tiny_base, "--data", rows, "--lora-dropout", 0, "--logging-steps", 1, "--save-steps", 4,
            "--learning-rate", 0.002, "--schedule", "constant", "--warmup-steps", 0, "--device", "cpu",
            "--probe-steps", 0]


def run(processes: int, *args: object) -> subprocess.CompletedProcess:
    done = subprocess.run(command(processes, *args), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done


def losses(output: Path) -> list[float]:
    records = [r for r in read_log(output / "log.jsonl") if "loss" in r]
    assert [r["step"] for r in records] == list(range(1, len(records) + 1))
    return [r["loss"] for r in records]


def test_a_signal_heard_while_processes_agree_is_kept_for_the_next_step(monkeypatch):
    """It was overwritten by what they had agreed on, so Ctrl-C did nothing, and torchrun killed the run after 30 s."""
    stop, control = StopOnSignal(), SimpleNamespace(should_training_stop=False)
    args = SimpleNamespace(world_size=2, device="cpu")
    monkeypatch.setattr("torch.distributed.all_reduce", lambda asked: stop.hear(signal.SIGINT, None))
    stop.on_step_end(args, None, control)
    assert not control.should_training_stop, "the other processes have not heard of it yet"
    monkeypatch.setattr("torch.distributed.all_reduce", lambda asked: None)
    stop.on_step_end(args, None, control)
    assert control.should_training_stop

    other, control = StopOnSignal(), SimpleNamespace(should_training_stop=False)  # one that heard nothing itself
    monkeypatch.setattr("torch.distributed.all_reduce", lambda asked: asked.fill_(1.0))
    other.on_step_end(args, None, control)
    assert control.should_training_stop and other.asked


def test_two_processes_stop_together_go_on_and_give_the_losses_of_one(common, tmp_path):
    two, one = tmp_path / "two", tmp_path / "one"
    pair = ["--output", two, "--batch", 2]
    process = subprocess.Popen(command(2, *common, *pair, "--max-steps", 100_000), stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    for _ in range(4800):
        if (two / "checkpoint-4").exists() or process.poll() is not None:
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=240)
    newest = max(two.glob("checkpoint-*"), key=step_of)
    assert f"saved in {newest}; the same command with --resume" in stderr, stderr
    assert fault(newest) is None and len(list(newest.glob("rng_state_[01].pth"))) == 2

    last = step_of(newest) + 3
    done = run(2, *common, *pair, "--max-steps", last, "--resume")
    assert done.stdout.strip() == str(two) and done.stderr.count("trainable params") == 1
    run(1, *common, "--output", one, "--batch", 2, "--gradient-accumulation", 2, "--max-steps", last)
    expected = losses(one)
    assert len(expected) == last and max(expected) - min(expected) > 0.05
    assert losses(two) == pytest.approx(expected, abs=1e-4)
