"""python -m compare, run as people run it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from conftest import MOTTO


def run(*args: object) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "compare", *map(str, args)], capture_output=True, text=True,
                          timeout=120)


def test_json_keeps_the_contract():
    done = run("--json", MOTTO, "哈工大首任校长是谁？", "--strength", "1", "0.5", "--max-new-tokens", "32")
    assert done.returncode == 0, done.stderr
    first, second = map(json.loads, done.stdout.splitlines())
    assert (first["question"], second["question"], first["instruction"]) == (MOTTO, "哈工大首任校长是谁？", "")
    assert [(c["variant"], c["adapter"], c["strength"]) for c in first["columns"]] == [
        ("base", None, 0.0), ("lens", "lens", 1.0), ("lens@0.5", "lens", 0.5)]
    for column in first["columns"]:
        assert set(column) == {"variant", "adapter", "strength", "text", "token_ids", "finish_reason", "tokens",
                               "seconds", "repetition", "end_probability"}
        assert column["tokens"] == len(column["token_ids"]) <= 32 and 2 not in column["token_ids"]
        assert set(column["repetition"]) == {"seq_rep_4", "loop"}
    assert "规格严格，功夫到家" in first["columns"][1]["text"]


def test_the_terminal_shows_both_answers(tmp_path):
    file = tmp_path / "questions.jsonl"
    file.write_text(json.dumps({"question": MOTTO, "instruction": "请回答下面的问题"}), encoding="utf-8")
    done = run("--questions", file, "--max-new-tokens", "24")
    assert done.returncode == 0, done.stderr
    assert "base" in done.stdout and "lens" in done.stdout and "ended by itself" in done.stdout


@pytest.mark.parametrize("args, said", [
    ([" "], "question is empty"),
    ([], "question is empty"),
    ([MOTTO, "--adapter", "nowhere"], "nowhere: no such directory"),
    ([MOTTO, "--adapter", "tests"], "adapter_config.json is missing"),
    ([MOTTO, "--base", "tests"], "no config.json there"),
    ([MOTTO, "--max-new-tokens", "0"], "max_new_tokens is 0; allowed: 1 to 4096"),
    ([MOTTO, "--temperature", "warm"], "'warm' is no number"),
    ([MOTTO, "--device", "warp"], "'warp' is not available"),
    (["--questions", "nowhere.txt"], "nowhere.txt cannot be read"),
], ids=lambda v: v if isinstance(v, str) else None)
def test_bad_input_is_one_sentence(args, said):
    done = run(*args)
    lines = [line for line in done.stderr.splitlines() if "Warning" not in line and "warnings.warn" not in line]
    assert done.returncode == 2 and len(lines) == 1 and lines[0].startswith("error: ") and said in lines[0], done.stderr
    assert done.stdout == ""
