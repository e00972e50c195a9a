"""Going on: the same run, or refused by name; what may change changes and is recorded; nothing finished is lost."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
import torch
from conftest import tiny_bloom
from training import records, run, settings

from lens.adapter.directory import read_adapter
from lens.errors import LensError, Note
from train.checkpoint import STATE, checkpoints, fault
from train.loop import train
from train.record.log import Log
from train.settings import chosen
from train.setup import astray


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    path.write_text("\n".join(json.dumps({"input": f"第{i}问", "output": "规格严格" * (i + 1)}, ensure_ascii=False)
                              for i in range(6)), encoding="utf-8")
    return path


def made(base, out, rows, **changes):
    return settings(base, out, rows, **{"max_steps": 4, "save_steps": 2, "learning_rate": 0.01, "warmup_steps": 0,
                                        "schedule": "constant", **changes})


@pytest.fixture(scope="module")
def stopped(tiny_base, rows, tmp_path_factory):
    """A finished run of 4 steps, to be copied."""
    return train(made(tiny_base, tmp_path_factory.mktemp("stopped") / "out", rows))


@pytest.fixture
def out(stopped, tmp_path):
    return shutil.copytree(stopped, tmp_path / "out")


def about(out):
    return json.loads((out / "training.json").read_text())


STAYS = [({"r": 4}, "--r is 4, but .*checkpoint-4 was made with 8"),
         ({"lora_alpha": 16}, "--lora-alpha is 16, but .* made with 8"),
         ({"use_rslora": True}, "--use-rslora is True, but .* made with False"),
         ({"target_modules": ["dense"]}, "--target-modules is .*dense.*, but .* made with .*query_key_value"),
         ({"recipe": "seed"}, "--recipe is seed, but .* made with lens"), ({"seed": 1}, "--seed is 1"),
         ({"max_length": 64}, "--max-length is 64, but .* made with 256"),
         ({"batch": 3}, "is 3 rows a step, but .* 2;")]


@pytest.mark.parametrize("changes, said", STAYS, ids=[" ".join(changes) for changes, _ in STAYS])
def test_what_must_stay_is_refused_by_name_with_both_values(out, tiny_base, rows, changes, said):
    before = (out / "adapter_model.safetensors").read_bytes()
    with pytest.raises(LensError, match=said):
        train(made(tiny_base, out, rows, resume=True, max_steps=6, **changes))
    assert (out / "adapter_model.safetensors").read_bytes() == before


def test_other_weights_of_the_same_shape_are_another_base(out, tiny_base, rows, tmp_path):
    other = shutil.copytree(tiny_base, tmp_path / "other")
    model = tiny_bloom()
    with torch.no_grad():
        model.transformer.h[0].mlp.dense_h_to_4h.weight.add_(0.01)
    model.save_pretrained(other)
    with pytest.raises(LensError, match="--base other has other weights than the base base of .*checkpoint-4"):
        train(made(other, out, rows, resume=True, max_steps=6))


def test_another_chat_template_is_refused_by_its_first_differing_line(out, tiny_base, rows, tmp_path):
    other = shutil.copytree(tiny_base, tmp_path / "other")
    template = (other / "chat_template.jinja").read_text(encoding="utf-8")
    (other / "chat_template.jinja").write_text(template.replace("系统", "系統", 1), encoding="utf-8")
    line = 1 + template[:template.index("系统")].count("\n")
    with pytest.raises(LensError, match=f"checkpoint-4 was made with .first in line {line}: .*系統.*, then .*系统"):
        train(made(other, out, rows, resume=True, max_steps=6))


def test_other_rows_are_refused_unless_on_purpose(out, tiny_base, rows, tmp_path):
    new = tmp_path / "new.jsonl"
    new.write_text('{"input": "新", "output": "的"}\n' * 6, encoding="utf-8")
    with pytest.raises(LensError, match="the 6 rows are not the 6 that .* --new-data"):
        train(made(tiny_base, out, new, resume=True, max_steps=6))
    train(made(tiny_base, out, new, resume=True, max_steps=6, new_data=True))
    assert {"step": 4, "setting": "data", "before": "6 rows", "after": "6 rows"} in about(out)["changes"]


def test_the_same_rows_in_another_file_are_the_same(out, tiny_base, rows, tmp_path):
    other = tmp_path / "rows.json"
    values = [json.loads(line) for line in rows.read_text(encoding="utf-8").splitlines()]
    other.write_text(json.dumps([{"question": v["input"], "answer": v["output"]} for v in values]), encoding="utf-8")
    train(made(tiny_base, out, other, resume=True, max_steps=5))
    assert [c["setting"] for c in about(out)["changes"]] == ["max_steps"]


def test_a_changed_rate_is_applied_from_that_step_on_and_recorded(out, tiny_base, rows):
    """It was ignored, and the card claimed it."""
    train(made(tiny_base, out, rows, resume=True, max_steps=6, learning_rate=0.001, weight_decay=0.5))
    rates = [r["learning_rate"] for r in records(out / "log.jsonl")]
    assert rates == [0.01] * 4 + [0.001] * 2
    changes = about(out)["changes"]
    assert {"step": 4, "setting": "learning_rate", "before": 0.01, "after": 0.001} in changes
    assert {"step": 4, "setting": "weight_decay", "before": 0.0, "after": 0.5} in changes
    assert "From step 4 on `learning_rate` was `0.001`, before `0.01`." in (out / "README.md").read_text()
    train(made(tiny_base, out, rows, resume=True, max_steps=7, learning_rate=0.001, weight_decay=0.5))
    assert changes == about(out)["changes"][:-1]  # and the new number of steps


def test_how_often_it_logs_and_saves_is_as_asked_now(out, tiny_base, rows):
    """A resumed run logged and saved as the first one had, whatever was asked."""
    train(made(tiny_base, out, rows, resume=True, max_steps=8, logging_steps=3, save_steps=1))
    assert [r["step"] for r in records(out / "log.jsonl") if r["step"] > 4] == [5, 6, 7, 8]  # each save logs too
    assert [c.name for c in checkpoints(out)][-4:] == [f"checkpoint-{step}" for step in (5, 6, 7, 8)]


def test_another_adapter_to_start_from_is_refused_in_a_resumed_run(stopped, out, tiny_base, rows, tmp_path):
    """It was ignored."""
    s = chosen({"from_adapter": str(stopped), "base": str(tiny_base), "data": [str(rows)], "max_steps": 1, "batch": 2,
                "output": str(tmp_path / "new"), "device": "cpu", "probe_steps": 0, "save_steps": 1})
    new, again = train(s), replace(s, resume=True, max_steps=2)
    with pytest.raises(LensError, match="--from-adapter is .*checkpoint-2, but .*checkpoint-1 was made with"):
        train(replace(again, from_adapter=str(stopped / "checkpoint-2")))
    with pytest.raises(LensError, match="--from-adapter is .*, but .*checkpoint-4 was made with none"):
        train(made(tiny_base, out, rows, resume=True, max_steps=6, from_adapter=str(stopped)))
    train(again)
    assert about(new)["steps"] == 2 and about(new)["lineage"]["from_adapter"] == stopped.name


def test_the_record_has_the_settings_in_force_at_each_step(out, tiny_base, rows):
    train(made(tiny_base, out, rows, resume=True, max_steps=6, learning_rate=0.02))
    train(made(tiny_base, out, rows, resume=True, max_steps=8, learning_rate=0.03))
    assert [(s["from_step"], s["learning_rate"], s["max_steps"]) for s in about(out)["in_force"]] == [
        (0, 0.01, 4), (4, 0.02, 6), (6, 0.03, 8)]
    assert (about(out)["steps"], about(out)["rows_seen"]) == (8, 16)


def test_changed_bytes_of_the_weights_are_told(out, tiny_base, capsys):
    """64 zeroed bytes went unnoticed."""
    newest = out / "checkpoint-4"
    weights = newest / "adapter_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-64:] = bytes(64)
    weights.write_bytes(content)
    assert fault(newest).code == "adapter-weights-changed" and fault(out / "checkpoint-2") is None
    [note] = [note for note in read_adapter(newest).notes if note.code == "adapter-weights-changed"]
    assert "not those that training.json names" in str(note) and not read_adapter(out).notes


def test_nothing_left_to_do_is_said_and_is_no_error(out, tiny_base, rows, capsys):
    before = (out / "adapter_model.safetensors").stat().st_mtime_ns
    assert train(made(tiny_base, out, rows, resume=True)) == out
    assert "nothing left to do" in capsys.readouterr().err
    assert (out / "adapter_model.safetensors").stat().st_mtime_ns == before


def test_a_finished_adapter_without_checkpoints_is_not_overwritten(out, tiny_base, rows):
    """It was trained anew from nothing, over the finished one."""
    for checkpoint in checkpoints(out):
        shutil.rmtree(checkpoint)
    before = (out / "adapter_model.safetensors").read_bytes()
    with pytest.raises(LensError, match="finished and its checkpoints are gone; --from-adapter"):
        train(made(tiny_base, out, rows, resume=True, max_steps=9))
    assert (out / "adapter_model.safetensors").read_bytes() == before


def test_a_run_from_an_adapter_starts_from_its_weights(stopped, tiny_base, rows, tmp_path):
    given = {"from_adapter": str(stopped), "base": str(tiny_base), "data": [str(rows)], "max_steps": 1, "batch": 2,
             "output": str(tmp_path / "new"), "learning_rate": 1e-9, "warmup_steps": 0, "device": "cpu",
             "logging_steps": 1, "probe_steps": 0}
    new = train(chosen(given))
    assert records(new / "log.jsonl")[0]["loss"] < records(stopped / "log.jsonl")[0]["loss"] - 0.01
    assert about(new)["lineage"]["from_adapter"] == stopped.name and len(about(new)["lineage"]["sha256"]) == 64
    assert "It started from the adapter `out`." in (new / "README.md").read_text()
    with pytest.raises(LensError, match="--r is 4, but .* made with 8; leave --r out"):
        train(chosen({**given, "r": 4, "output": str(tmp_path / "other")}))


def test_a_run_from_an_adapter_tells_what_is_to_be_told_of_it(stopped, tiny_base, rows, tmp_path, capsys):
    """Its weights are others than its record says: the page told so, training did not."""
    shutil.copytree(stopped, first := tmp_path / "first")
    record = about(first)
    (first / "training.json").write_text(json.dumps({**record, "weights_sha256": "0" * 64}), encoding="utf-8")
    train(made(tiny_base, tmp_path / "new", rows, from_adapter=str(first), max_steps=1))
    assert str(Note("adapter-weights-changed", path=first, found=record["weights_sha256"][:12], recorded="0" * 12)
               ) in capsys.readouterr().err


def test_a_run_from_an_adapter_takes_its_rank(tiny_base, rows, tmp_path):
    first = train(made(tiny_base, tmp_path / "first", rows, r=4, lora_alpha=2, target_modules=["dense"], max_steps=1))
    s = chosen({"from_adapter": str(first)})
    assert (s.r, s.lora_alpha, s.use_rslora, s.target_modules) == (4, 2, False, ["dense"])


def test_the_same_command_with_resume_goes_on_from_an_adapter_of_any_rank(tiny_base, rows, tmp_path):
    """It asked for the LoRA settings that the first command had taken from the adapter."""
    first = train(made(tiny_base, tmp_path / "first", rows, r=4, lora_alpha=2, target_modules=["dense"], max_steps=1))
    given = {"from_adapter": str(first), "base": str(tiny_base), "data": [str(rows)], "max_steps": 1, "batch": 2,
             "output": str(tmp_path / "new"), "device": "cpu", "probe_steps": 0, "save_steps": 1}
    train(chosen(given))
    shutil.rmtree(first)  # needed no more
    new = train(chosen({**given, "resume": True, "max_steps": 2}))
    assert about(new)["steps"] == 2 and about(new)["settings"]["r"] == 4


def test_what_lacks_to_go_on_is_told_before_an_adapter_that_is_gone(tmp_path):
    given = {"from_adapter": str(tmp_path / "gone"), "resume": True, "output": str(tmp_path / "new")}
    assert chosen(given).from_adapter == str(tmp_path / "gone")
    with pytest.raises(LensError, match="gone"):
        chosen({**given, "resume": False})


def test_a_run_that_stopped_before_its_first_checkpoint_starts_from_its_adapter_again(stopped, tiny_base, rows,
                                                                                     tmp_path):
    """It started from nothing, and said nothing."""
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "log.jsonl").write_text("", encoding="utf-8")
    new = train(made(tiny_base, tmp_path / "new", rows, from_adapter=str(stopped), resume=True, max_steps=1,
                     learning_rate=1e-9, logging_steps=1))
    assert records(new / "log.jsonl")[0]["loss"] < records(stopped / "log.jsonl")[0]["loss"] - 0.01
    assert about(new)["lineage"]["from_adapter"] == stopped.name


def test_old_checkpoints_keep_their_adapter_and_the_newest_and_the_best_all(tiny_base, rows, tmp_path):
    out = train(made(tiny_base, tmp_path / "out", rows, max_steps=6, save_steps=1, save_total_limit=2,
                     eval_data=[str(rows)], eval_steps=1))
    losses = {r["step"]: r["eval_loss"] for r in records(out / "log.jsonl") if "eval_loss" in r}
    whole = {5, 6, min(losses, key=losses.get)}
    for checkpoint in checkpoints(out):
        step = int(checkpoint.name.removeprefix("checkpoint-"))
        assert (fault(checkpoint) is None) is (step in whole)
        assert (checkpoint / "adapter_model.safetensors").is_file()
        assert any((checkpoint / name).exists() for name in STATE) is (step in whole)


def test_a_loss_that_is_no_number_stops_and_the_advice_works(tiny_base, rows, tmp_path):
    """The advice was a lower rate with --resume, which was ignored."""
    plain = {"max_steps": 40, "save_steps": 3}
    out = tmp_path / "out"
    train(made(tiny_base, out, rows, max_steps=3, save_steps=3))
    with pytest.raises(LensError, match="loss (is nan|is inf)|no longer finite") as caught:
        train(made(tiny_base, out, rows, resume=True, **plain, learning_rate=1e30))
    said = str(caught.value)
    assert "--resume --learning-rate 0.001 goes on from" in said and "checkpoint-3," in said
    lower = float(said.split("--learning-rate ")[1].split()[0])
    train(made(tiny_base, out, rows, resume=True, max_steps=8, save_steps=3, learning_rate=lower))
    steps = [r["step"] for r in records(out / "log.jsonl")]
    assert steps == list(range(1, 9)) and records(out / "log.jsonl")[-1]["loss"] < 12


def test_a_loss_that_diverges_stops_and_what_was_saved_meanwhile_goes(stopped, tmp_path, capsys):
    log = Log(tmp_path / "log.jsonl", "cpu", lambda sound: astray(out, sound, 0.01))
    out = shutil.copytree(stopped, tmp_path / "out")
    for step, loss in enumerate([4.0, 3.0, 9.0, 3.0, 2.0], 1):  # one batch may be hard
        log.watch(loss, step)
    log = Log(tmp_path / "log.jsonl", "cpu", lambda sound: astray(out, sound, 0.01))
    for step, loss in enumerate([4.0, 3.0, 2.0, 2.0, 2.0, 9.0, 9.0], -2):
        log.watch(loss, step)
    with pytest.raises(LensError, match="loss rose to 9.00 at step 5, from 4.00 .*checkpoint-2, the last good"):
        log.watch(9.0, 5)
    assert [p.name for p in checkpoints(out)] == ["checkpoint-2"]
    assert "checkpoint-4 was removed" in capsys.readouterr().err


def test_a_base_that_gives_no_number_is_told_apart_from_a_rate_that_is_too_high(rows, tiny_base, tmp_path, monkeypatch):
    from train import setup

    real = setup.adapted_base

    def broken(*args):
        model = real(*args)
        with torch.no_grad():
            model.get_base_model().transformer.ln_f.weight.fill_(float("nan"))
        return model

    monkeypatch.setattr(setup, "adapted_base", broken)
    with pytest.raises(LensError, match="before anything was learnt: .*--dtype float32"):
        train(made(tiny_base, tmp_path / "out", rows))


@pytest.mark.usefixtures("cold")
def test_no_library_warns_a_person_of_what_is_right(out, tiny_base, rows, tmp_path):
    """Trainer's "arguments do not match" on resume, the tokenizer's "5000 > 2048", and warnings with file and line."""
    long = tmp_path / "long.jsonl"
    long.write_text(rows.read_text(encoding="utf-8") + "\n" + json.dumps({"input": "长", "output": "严格规格" * 3000}),
                    encoding="utf-8")
    done = run("train", "--base", tiny_base, "--data", long, "--output", out, "--resume", "--new-data", "--max-steps",
               5, "--batch", 2, "--save-steps", 1, "--logging-steps", 2, "--learning-rate", 0.01, "--warmup-steps", 0,
               "--schedule", "constant", "--device", "cpu", "--probe-steps", 0)
    assert done.returncode == 0, done.stderr
    for wrong in ("do not match", "indexing errors", "Warning", ".py:"):
        assert wrong not in done.stderr
    assert "1 of 7 rows are longer" in done.stderr and "going on from" in done.stderr
