"""A short training of a tiny BLOOM, for the tests: run it, read what it wrote."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from pathlib import Path

from lens.declared_settings import make_settings
from train.data.encoding import encode_rows
from train.settings import TrainSettings

PARTS = {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json", "tokenizer_config.json",
         "chat_template.jinja", "training.json", "README.md"}


def run(*args: object) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", *map(str, args)], capture_output=True, text=True, timeout=300)


def encode_row(row, tokenizer, *how, **named) -> dict[str, list[int]]:
    """`input_ids` and `labels` of one row."""
    [encoded] = encode_rows([row], tokenizer, *how, **named)
    return encoded


def records(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@cache
def six_steps(tiny_base: Path, folder: Path) -> tuple[Path, subprocess.CompletedProcess]:
    """An adapter directory of 6 steps below `folder`, and what was said; trained once for all files that ask."""
    rows, out = folder / "six-steps" / "rows.jsonl", folder / "six-steps" / "out" / "adapter"
    out.parent.mkdir(parents=True)
    rows.write_text(json.dumps({"instruction": "", "input": "校训？", "output": "规格严格"}, ensure_ascii=False))
    done = run("train", "--base", tiny_base, "--data", rows, "--output", out, "--max-steps", 6, "--save-steps", 3,
               "--logging-steps", 1, "--learning-rate", 0.05, "--warmup-steps", 0, "--device", "cpu",
               "--probe-steps", 4, "--probes", "校训？", "校长|是谁？", "--eval-data", rows, "--eval-steps", 3)
    assert done.returncode == 0, done.stderr
    return out, done


def settings(base: object, output: Path, data: Path, **changes) -> TrainSettings:
    return make_settings(TrainSettings, {"base": str(base), "data": [str(data)], "output": str(output), "max_steps": 3,
                                         "batch": 2, "logging_steps": 1, "probe_steps": 0, "device": "cpu", **changes})
