"""What training and merging refuse: one sentence, and nothing left behind."""

from __future__ import annotations

import importlib
from importlib.util import find_spec

import pytest
import torch
from training import run, settings

from lens.errors import LensError
from train.loop import train

BAD_COMMANDS = [
    (["train"], "--output is missing"),
    (["train", "--output", "{tmp}/x", "--data", "{tmp}/none.jsonl"], "does not exist"),
    (["train", "--output", "{tmp}"], "is not empty"),
    (["train", "--output", "{tmp}/x", "--r", "0"], "--r is 0; allowed: 1 to 1024"),
    (["train", "--output", "{tmp}/x", "--target-modules", "wq"], "'wq'; allowed"),
    (["train", "--output", "{tmp}/x", "--recipe", "magic"], "invalid choice"),
    (["train", "--output", "{tmp}/x", "--base", "{tmp}"], "no config.json"),
    (["train", "--output", "{tmp}/x", "--resume"], "no checkpoint-N"),
    (["train.merge", "{tmp}", "--output", "{tmp}/m"], "adapter_config.json is missing"),
]
BAD_SETTINGS = [
    ({"report_to": "trackio"}, "trackio: it is not installed; pip install trackio"),
    ({"eval_share": 0.1}, "leaves none on one side"),
    ({"eval_share": 0.5, "eval_data": ["x"]}, "both given"),
    ({"eval_share": 0.9}, "0 to 0.5"),
    ({"probes": [" "]}, "empty question"),
    ({"device": "cuda"}, "device 'cuda' is not available here"),
    ({"max_length": 8}, "raise --max-length"),
]


def test_bad_input_as_people_meet_it():
    done = run("train", "--output", "tests")
    assert (done.returncode, done.stdout) == (2, "") and done.stderr.startswith("error: --output tests is not empty")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("command, said", BAD_COMMANDS, ids=[said for _, said in BAD_COMMANDS])
def test_bad_input_is_one_sentence_and_leaves_nothing(tmp_path, capsys, command, said):
    (tmp_path / "something").write_text("x")
    module, *options = (part.format(tmp=tmp_path) for part in command)
    main = importlib.import_module("train.__main__" if module == "train" else module).main
    try:
        code = main(options)
    except SystemExit as end:
        code = end.code
    lines = capsys.readouterr().err.strip().splitlines()
    assert code == 2 and len(lines) == 1 and lines[0].startswith("error: ") and said in lines[0], lines
    assert [p.name for p in tmp_path.iterdir()] == ["something"]


@pytest.mark.parametrize("changes, said", BAD_SETTINGS, ids=[said for _, said in BAD_SETTINGS])
def test_bad_settings_are_refused_before_anything_is_written(tmp_path, rows_file, tiny_base, changes, said):
    if "device" in changes and torch.cuda.is_available() or "report_to" in changes and find_spec("trackio"):
        pytest.skip("this machine has what the test needs missing")
    with pytest.raises(LensError) as caught:
        train(settings(tiny_base, tmp_path / "out", rows_file, **changes))
    assert said in str(caught.value) and not (tmp_path / "out").exists()
