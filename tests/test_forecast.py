"""Before the first step: what will not work is said, with the option that mends it."""

from __future__ import annotations

import json

import pytest
import torch
from training import settings

from lens.base.files import find_base
from lens.base.loading import Compute
from train.check import look
from train.data import forecast as module
from train.data.dataset import load_dataset
from train.data.forecast import CALM, Plan, about_machine, forecast, in_gb, memory_needed
from train.loop import train
from train.settings import chosen

ASKED, TOLD = "校训是什么？", "规格严格，功夫到家"


def rows_in(path, rows):
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    return path


def told(tmp_path, tiny_base, tokenizer, rows, **changes) -> dict[str, str]:
    """Code → sentence of what is foretold."""
    s = settings(tiny_base, tmp_path / "out", rows_in(tmp_path / "some.jsonl", rows),
                 **{"warmup_steps": 0, "max_steps": 10, **changes})
    data = load_dataset(s, tokenizer)
    found = forecast(s, data, Plan.of(s, len(data.rows), 1))
    assert all(note.said("zh") != str(note) for note in found)
    return {note.code: str(note) for note in found}


ROWS = [{"input": f"第{i}问", "output": TOLD} for i in range(20)]
LONG = {"input": ASKED, "output": TOLD * 30}


def test_a_sound_run_is_not_warned_of(tmp_path, tiny_base, tokenizer):
    assert set(told(tmp_path, tiny_base, tokenizer, ROWS)) <= set(CALM)


def test_two_cut_rows_of_many_are_counted_and_the_options_work(tmp_path, tiny_base, tokenizer):
    """They were shown as 0.0% cut."""
    rows = [*ROWS * 252, LONG, {**LONG, "input": "又问"}]
    said = told(tmp_path, tiny_base, tokenizer, rows, max_length=64)
    assert "2 of 5,042 rows are longer than --max-length 64 and are cut, by" in said["rows-cut"]
    assert "2 answers lose their ending" in said["endings-lost"]
    longest = int(said["rows-cut"].split("; --max-length ")[1].split()[0])
    assert not {"rows-cut", "endings-lost"} & set(told(tmp_path, tiny_base, tokenizer, rows, max_length=longest))
    assert "rows-cut" in told(tmp_path, tiny_base, tokenizer, rows, max_length=longest - 1)
    dropped = told(tmp_path, tiny_base, tokenizer, rows, max_length=64, drop_cut_rows=True)
    assert "2 rows longer than --max-length 64 are left out" in dropped["rows-dropped"]
    assert not {"rows-cut", "endings-lost"} & set(dropped)


def test_all_rows_cut_is_a_warning_of_its_own(tmp_path, tiny_base, tokenizer):
    assert "ALL 3 rows" in told(tmp_path, tiny_base, tokenizer, [LONG] * 3, max_length=64)["rows-all-cut"]


@pytest.mark.parametrize("warmup, warned", [(10, True), (100, True), (9, False), (0, False)])
def test_a_warm_up_as_long_as_the_run(tmp_path, tiny_base, tokenizer, warmup, warned):
    assert ("warm-up-too-long" in told(tmp_path, tiny_base, tokenizer, ROWS, warmup_steps=warmup)) is warned


def test_epochs_are_told_and_many_are_a_warning(tmp_path, tiny_base, tokenizer):
    """300 steps on two rows were 1,200 epochs without a word."""
    said = told(tmp_path, tiny_base, tokenizer, ROWS[:2], batch=8, max_steps=300)
    assert "300 steps of 8 rows are 1,200.0 epochs over 2 rows" in said["run-epochs-many"]
    assert "10 steps of 2 rows are 1.0 epochs over 20 rows" in told(tmp_path, tiny_base, tokenizer, ROWS)["run-epochs"]


def test_epochs_in_place_of_steps(tmp_path, tiny_base, rows_file):
    out = train(settings(tiny_base, tmp_path / "out", rows_file, max_steps=1000, epochs=3))
    about = json.loads((out / "training.json").read_text())
    assert about["settings"]["max_steps"] == 6 == about["losses"][-1]["step"]  # 4 rows, 2 a step
    with pytest.raises(ValueError, match="--max-steps and --epochs are both given"):
        chosen({"max_steps": 5, "epochs": 2.0})


def test_rows_that_repeat_contradict_or_give_the_held_out_away(tmp_path, tiny_base, tokenizer):
    one = {"input": ASKED, "output": TOLD}
    held = rows_in(tmp_path / "held.jsonl", [one, {"input": "没教过", "output": "不知道"}])
    said = told(tmp_path, tiny_base, tokenizer, [one, one, {**one, "output": "别的"}, *ROWS], eval_data=[str(held)])
    assert "1 rows say again" in said["rows-repeated"]
    assert f"1 questions have different answers in different rows, such as '{ASKED}'" in said["rows-contradict"]
    assert "1 of 2 held-out rows ask what is taught" in said["held-out-taught"]


def test_memory_that_is_not_there_is_told_before_the_model_is_loaded(tmp_path, tiny_base, tokenizer, monkeypatch):
    s = settings(tiny_base, tmp_path / "out", rows_in(tmp_path / "rows.jsonl", ROWS))
    data, files, compute = load_dataset(s, tokenizer), find_base(tiny_base), Compute("cpu", torch.float32)
    needed = memory_needed(s, data, files, 4)
    assert needed > 285_632 * 4  # its weights alone
    for here, warned in ((needed - 1, True), (needed, False)):
        monkeypatch.setattr(module, "memory_here", lambda compute, here=here: here)
        notes = {note.code: str(note) for note in about_machine(s, data, files, compute, Plan.of(s, 20, 1))}
        assert ("memory-short" in notes) is warned and "it will take about" in notes["run-time"]
        assert not warned or in_gb(needed) in notes["memory-short"]
    assert memory_needed(settings(tiny_base, tmp_path, tmp_path, batch=64), data, files, 4) > needed


def test_what_was_cut_is_recorded(tmp_path, tiny_base):
    rows = rows_in(tmp_path / "rows.jsonl", [*ROWS, LONG])
    out = train(settings(tiny_base, tmp_path / "out", rows, max_length=64, max_steps=1))
    about = json.loads((out / "training.json").read_text())
    assert (about["cut_rows"], about["endings_lost"], about["dropped_rows"]) == (1, 1, 0)
    card = (out / "README.md").read_text()
    assert "1 cut at the end" in card and "1 answers without their ending" in card


def test_the_page_is_told_the_same(tmp_path, tiny_base):
    s = settings(tiny_base, tmp_path, rows_in(tmp_path / "rows.jsonl", [*ROWS, LONG]), max_length=64)
    codes = [note["code"] for note in look(s)["notes"]]
    assert {"read-as", "rows-cut", "endings-lost", "run-epochs"} <= set(codes)
