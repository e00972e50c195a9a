"""Never lose work: whole checkpoints, resuming, signals, kills, full disks, crafted files."""

from __future__ import annotations

import errno
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from lens.adapter.directory import judge
from lens.errors import BadAdapter, LensError
from train.checkpoint import fault, last_whole
from train.interrupt import Interrupted
from train.loop import train
from train.record.log import read_log
from train.settings import TrainSettings


@pytest.fixture
def settings(tiny_base, rows_file, tmp_path):
    """Settings of a run of 8 steps over 4 rows, dropout on, a checkpoint every 3."""
    def make(output: str = "out", **changes) -> TrainSettings:
        return TrainSettings(**{
            "output": str(tmp_path / output), "base": str(tiny_base), "data": [str(rows_file)], "max_steps": 8,
            "batch": 2, "save_steps": 3, "logging_steps": 1, "learning_rate": 0.02, "warmup_steps": 2,
            "lora_dropout": 0.2, "probe_steps": 0, "device": "cpu", **changes})
    return make


def losses(output: Path) -> list[tuple[int, float]]:
    return [(r["step"], r["loss"]) for r in read_log(output / "log.jsonl") if "loss" in r]


def stop_after(monkeypatch, step: int, number: int = signal.SIGINT) -> None:
    """Send this process a signal in the middle of a step, as a terminal would."""
    from train.trainer import AdapterTrainer

    real = AdapterTrainer.training_step

    def training_step(self, *args, **kwargs):
        if self.state.global_step == step - 1:
            os.kill(os.getpid(), number)
        return real(self, *args, **kwargs)

    monkeypatch.setattr(AdapterTrainer, "training_step", training_step)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_goes_on_with_the_losses_of_an_unbroken_one(settings, monkeypatch, number):
    before = signal.getsignal(number)
    whole = train(settings("whole"))
    with monkeypatch.context() as patch:
        stop_after(patch, 5, number)
        with pytest.raises(Interrupted, match="interrupted at step 5, saved in .*checkpoint-5; .*--resume"):
            train(settings("broken"))
    assert signal.getsignal(number) == before
    broken = train(settings("broken", resume=True))
    assert [step for step, _ in losses(broken)] == list(range(1, 9))
    for (_, expected), (_, found) in zip(losses(whole), losses(broken), strict=True):
        assert found == pytest.approx(expected, abs=5e-5)
    first, second = ((d / "adapter_model.safetensors").read_bytes() for d in (whole, broken))
    assert first == second


def test_losses_are_the_same_where_records_are_averages(settings, monkeypatch):
    whole = train(settings("whole", logging_steps=4, eval_share=0.5, eval_steps=2))
    with monkeypatch.context() as patch:
        stop_after(patch, 4)
        with pytest.raises(Interrupted):
            train(settings("broken", logging_steps=4, eval_share=0.5, eval_steps=2))
    broken = train(settings("broken", logging_steps=4, eval_share=0.5, eval_steps=2, resume=True))
    for key in ("loss", "eval_loss"):
        one, two = ([(r["step"], round(r[key], 4)) for r in read_log(d / "log.jsonl") if key in r]
                    for d in (whole, broken))
        assert one == two and len(one) >= 4, key


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:path.stat().st_size // 2])


DAMAGES = [
    ("adapter_model.safetensors", Path.unlink), ("adapter_model.safetensors", cut), ("optimizer.pt", Path.unlink),
    ("optimizer.pt", cut), ("scheduler.pt", cut), ("rng_state.pth", Path.unlink), ("rng_state.pth", cut),
    ("trainer_state.json", cut), ("adapter_config.json", Path.unlink), ("tokenizer.json", Path.unlink),
]


@pytest.fixture(scope="module")
def saved(tiny_base, tmp_path_factory):
    """A run of 4 steps with checkpoints at 2 and 4. Copied by the tests, never changed."""
    path = tmp_path_factory.mktemp("saved")
    (path / "rows.jsonl").write_text('{"input": "校训？", "output": "规格严格"}')
    return train(TrainSettings(output=str(path / "out"), base=str(tiny_base), data=[str(path / "rows.jsonl")],
                               max_steps=4, batch=1, save_steps=2, logging_steps=1, device="cpu", probe_steps=0))


@pytest.mark.parametrize("name, damage", DAMAGES, ids=[f"{n}-{d.__name__}" for n, d in DAMAGES])
def test_a_damaged_newest_checkpoint_is_passed_over(saved, tmp_path, capsys, name, damage):
    out = shutil.copytree(saved, tmp_path / "out")
    assert last_whole(out) == out / "checkpoint-4"
    damage(out / "checkpoint-4" / name)
    assert last_whole(out) == out / "checkpoint-2"
    said = capsys.readouterr().err.replace(f"adapter {out}/checkpoint-4: ", "")
    assert f"checkpoint-4 is passed over: {name}" in said


def test_resuming_passes_over_what_a_kill_left(saved, settings, tmp_path):
    out = shutil.copytree(saved, tmp_path / "out")
    cut(out / "checkpoint-4" / "optimizer.pt")
    shutil.copytree(out / "checkpoint-2", out / ".part" / "checkpoint-5")
    with (out / "log.jsonl").open("a") as log:
        log.write('{"step": 5, "lo')
    train(settings("out", batch=1, max_steps=6, resume=True, data=[str(saved.parent / "rows.jsonl")]))
    assert [step for step, _ in losses(out)] == [1, 2, 3, 4, 5, 6]
    assert fault(out / "checkpoint-6") is None and not (out / ".part").exists()


def test_nothing_is_unpickled_and_nothing_outside_the_run_is_read(saved, tmp_path):
    class Evil:
        def __reduce__(self):
            return Path.touch, (tmp_path / "pwned",)

    out = shutil.copytree(saved, tmp_path / "out")
    newest = out / "checkpoint-4"
    torch.save({"state": Evil()}, newest / "optimizer.pt")
    assert str(fault(newest)).startswith("optimizer.pt cannot be read")
    (newest / "optimizer.pt").write_bytes(pickle.dumps(Evil()))
    assert str(fault(newest)).startswith("optimizer.pt cannot be read")
    (newest / "optimizer.pt").unlink()
    (newest / "optimizer.pt").symlink_to(saved / "checkpoint-4" / "optimizer.pt")
    assert "leads out of" in str(fault(newest))
    assert not (tmp_path / "pwned").exists()


def test_a_key_of_the_base_is_refused(saved, tmp_path):
    from safetensors.torch import load_file, save_file

    out = shutil.copytree(saved, tmp_path / "out")
    path = out / "checkpoint-4" / "adapter_model.safetensors"
    save_file({**load_file(path), "base_model.model.transformer.ln_f.weight": torch.zeros(32)}, path)
    with pytest.raises(BadAdapter, match="ln_f.weight.*only lora_A and lora_B"):
        judge(path.parent, "x")
    assert last_whole(out) == out / "checkpoint-2"


@pytest.mark.parametrize("changes, said", [
    ({"r": 4}, "--r is 4, but .*made with 8"),
    ({"target_modules": ["query_key_value", "dense"]}, "--target-modules is .*dense.*made with"),
    ({"max_steps": 3}, "--max-steps is 3, but .*checkpoint-4 is further; give 4 or more"),
])
def test_resuming_another_run_is_refused(saved, settings, tmp_path, changes, said):
    shutil.copytree(saved, tmp_path / "out")
    with pytest.raises(LensError, match=said):
        train(settings("out", **{"batch": 1, "max_steps": 6, "resume": True, **changes}))


def test_a_run_killed_before_its_result_is_finished_without_a_step(saved, settings, tmp_path):
    out = shutil.copytree(saved, tmp_path / "out")
    for name in ("adapter_model.safetensors", "README.md", "loss.png", "adapter_config.json"):
        (out / name).unlink()
    train(settings("out", batch=1, max_steps=4, resume=True, data=[str(saved.parent / "rows.jsonl")]))
    same = [(d / "adapter_model.safetensors").read_bytes() for d in (out, saved)]
    assert same[0] == same[1] and len(losses(out)) == 4 and (out / "loss.png").is_file()


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("writer, error", [
    ("torch.save", RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed")),
    ("peft.peft_model.safe_save_file", FULL),
    ("lens.adapter.write.os.fsync", FULL),
])
def test_a_full_disk_is_said_and_the_last_good_checkpoint_stays(settings, tmp_path, monkeypatch, writer, error):
    out = train(settings(max_steps=3))
    kept = {p.name: p.read_bytes() for p in (out / "checkpoint-3").iterdir()}

    def full(*_, **__):
        raise error

    monkeypatch.setattr(writer, full)
    with pytest.raises(LensError, match=r"saving step 6 in .* failed \(.*\); the last good .* is .*checkpoint-3"):
        train(settings(resume=True))
    assert {p.name: p.read_bytes() for p in (out / "checkpoint-3").iterdir()} == kept
    assert not (out / "checkpoint-6").exists() and not (out / ".part").exists()
    monkeypatch.undo()
    assert [step for step, _ in losses(train(settings(resume=True)))] == list(range(1, 9))


def test_a_full_disk_under_the_log_is_said(settings, monkeypatch):
    def full(*_):
        raise FULL

    monkeypatch.setattr("train.record.log.append", full)
    with pytest.raises(LensError, match="No space left on device.*there is no checkpoint yet"):
        train(settings())


def test_a_loss_that_is_no_number_ends_the_run(settings):
    with pytest.raises(LensError, match="(loss is (nan|inf)|no longer finite) at step .*--learning-rate 0.001"):
        train(settings(learning_rate=1e30, warmup_steps=0))


def begin(*args: object) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-m", "train", *map(str, args)], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True)


def wait_for(path: Path, process: subprocess.Popen) -> None:
    for _ in range(4800):
        if path.exists():
            return
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    raise AssertionError(f"{path} never came")


def test_ctrl_c_and_kill_as_people_do_it(tiny_base, rows_file, tmp_path):
    out = tmp_path / "out"
    command = ["--base", tiny_base, "--data", rows_file, "--output", out, "--max-steps", 100_000, "--save-steps", 5,
               "--logging-steps", 1, "--device", "cpu", "--probe-steps", 0]
    process = begin(*command)
    wait_for(out / "checkpoint-10", process)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=240)
    assert process.returncode == 130 and stdout == "" and "saved in" in stderr and "--resume" in stderr, stderr
    stopped = last_whole(out)
    assert f"saved in {stopped};" in stderr

    process = begin(*command, "--resume")
    wait_for(stopped.with_name(f"checkpoint-{int(stopped.name[11:]) // 5 * 5 + 10}"), process)
    process.kill()
    process.communicate(timeout=240)
    reached = [json.loads(line)["step"] for line in (out / "log.jsonl").read_text().splitlines()[:-1]]
    assert reached == list(range(1, len(reached) + 1))
    assert int(last_whole(out).name[11:]) >= reached[-1] - 5
