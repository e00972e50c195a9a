"""The one command for a card: tried whole on the processor, and its table says nothing of cards it has not run on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bench.gpu import TABLE, TIMED, TRAINED, gap, table

ROOT = Path(__file__).resolve().parent.parent


def result(**changes) -> dict:
    return {"tiny": False, "complete": True, "about": {"card": "A card", "commit": "abc1234"},
            "speed": {"static": dict.fromkeys(TIMED, 1.234)}, "training": {"table": dict.fromkeys(TRAINED)}, **changes}


def test_only_whole_runs_on_cards_are_in_the_table():
    text = table([result(), result(tiny=True), result(complete=False)])
    assert text.count("A card") == 1 and text.count("| 1.23 |") == len(TIMED) and text.count("| – |") == len(TRAINED)
    nothing = table([result(tiny=True)])
    assert nothing.count("not measured") == len(TABLE) and "A card" not in nothing


def test_where_answers_part_the_two_best_logits_are_looked_at():
    from test_batch import MODEL

    ids = [5, 6, 7]
    with torch.inference_mode(), MODEL.disable_adapter():
        logits = MODEL(input_ids=torch.tensor([[*ids, 9]])).logits[0, -1]
    best = logits.topk(2).values
    found = gap(MODEL, ids, [9, 10, 11], [9, 12, 11], base=True)
    assert found == {"at": 1, "gap": (best[0] - best[1]).item(), "largest": logits.abs().max().item()}
    assert gap(MODEL, ids, [9], [9, 12], base=True) == found  # one that ended earlier


@pytest.mark.slow
def test_the_whole_command_on_the_processor(tmp_path):
    done = subprocess.run(["bash", "bench/gpu.sh", "--tiny", "--output", tmp_path / "found.json"], cwd=ROOT,
                          capture_output=True, text=True, env={**os.environ, "PYTHON": sys.executable})
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    assert found["complete"] and found["float32"]["same"] == found["float32"]["answers"] == 4
    assert found["speed"]["steps"] == {"static": "static", "eager": "eager"}
    assert set(found["speed"]["static"]) == set(TIMED) and set(found["training"]["table"]) == set(TRAINED)
    assert found["limits"]["copy_bytes_per_second"] > 0 and len(found["step"]["longest"]) > 5
