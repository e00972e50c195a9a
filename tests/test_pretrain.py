"""Pretraining: what it reads, that it resumes as if it had not stopped, and what it must never read."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ASSETS, BASE

from train.pretraining.corpus import load_streams, prose_passages, windows
from train.pretraining.optimizers import orthogonalized


@pytest.fixture
def corpus(tmp_path) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    text = "".join(f"第{i}句话写的是别的事情，和第{i + 1}句不一样。" for i in range(400))
    (folder / "a.jsonl").write_text(json.dumps({"text": text + "</s><|beginofutterance|>"}), encoding="utf-8")
    (folder / "b.txt").write_text("短句。" * 300, encoding="utf-8")
    return folder


def streams(corpus, tokenizer, prose=None):
    return load_streams(corpus, prose, 0.3, tokenizer.backend_tokenizer, 2, 32, 0, corpus.parent / "cache")


def test_windows_are_a_function_of_seed_step_and_row(corpus, tokenizer):
    found = streams(corpus, tokenizer)
    whole = windows(found, range(8), 5, 32, 0)
    assert np.array_equal(whole[3:5], windows(found, range(3, 5), 5, 32, 0))
    assert not np.array_equal(whole, windows(found, range(8), 6, 32, 0))
    assert not np.array_equal(whole, windows(found, range(8), 5, 32, 1))


def test_text_that_spells_a_special_token_is_text(corpus, tokenizer):
    ids = np.concatenate([np.concatenate([s.tokens, s.heldout]) for s in streams(corpus, tokenizer)])
    marker = tokenizer.convert_tokens_to_ids("<|beginofutterance|>")
    assert marker not in ids
    assert (ids == 2).sum() == 2  # one true end for each of the two long documents


def test_prose_gets_its_share(corpus, tokenizer):
    found = streams(corpus, tokenizer, ASSETS / "hit_qa" / "facts.jsonl")
    assert sum(s.share for s in found) == pytest.approx(1)
    assert found[-1].name == "prose" and found[-1].share == 0.3


def test_no_question_and_no_chat_format_in_the_prose():
    passages = "\n".join(prose_passages(ASSETS / "hit_qa" / "facts.jsonl", 0))
    rows = [json.loads(line) for name in ("train.jsonl", "heldout.jsonl", "independent.jsonl")
            for line in (ASSETS / "hit_qa" / name).read_text(encoding="utf-8").splitlines()]
    asked = [r["input"] for r in rows if len(r["input"]) > 4]
    parts = {n: {passages[i:i + n] for i in range(len(passages))} for n in (5, 8)}  # `in` alone takes half a minute

    def stands(question: str) -> bool:
        n = 8 if len(question) >= 8 else 5
        return all(question[i:i + n] in parts[n] for i in range(len(question) - n + 1)) and question in passages

    assert len(asked) > 1000 and not list(filter(stands, asked))
    assert stands(passages[1000:1005]) and stands(passages[1000:1040])
    assert "？" not in passages and "智能助手\n" not in passages and "<|beginofutterance|>系统" not in passages


def run(corpus, output, steps):
    return subprocess.run([sys.executable, "-m", "train.pretrain", "--corpus", corpus, "--prose", "", "--base", BASE,
                           "--output", output, "--max-steps", str(steps), "--batch", "2", "--window", "16",
                           "--no-compile", "--save-seconds", "0.001", "--eval-steps", "1000", "--device", "cpu",
                           "--dtype", "float32", "--decay-share", "0"], capture_output=True, text=True, timeout=200)


@pytest.mark.slow  # three processes and their imports
def test_a_resumed_run_ends_where_an_unbroken_one_does(corpus, tmp_path):
    assert run(corpus, tmp_path / "whole", 4).returncode == 0
    assert run(corpus, tmp_path / "parts", 2).returncode == 0
    done = run(corpus, tmp_path / "parts", 4)
    assert done.returncode == 0, done.stderr
    whole, parts = (torch.load(tmp_path / name / "state" / "latest.pt", weights_only=True)
                    for name in ("whole", "parts"))
    assert whole["step"] == parts["step"] == 4
    for name, weight in whole["model"].items():
        assert torch.equal(weight, parts["model"][name]), name


def test_an_empty_corpus_is_named(tmp_path):
    done = run(tmp_path, tmp_path / "out", 1)
    assert done.returncode == 2 and "no .jsonl or .txt files" in done.stderr


@pytest.mark.parametrize("shape", [(16, 64), (64, 16)])
def test_muon_drives_singular_values_to_one(shape):
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonalized(torch.randn(shape)))
    assert values.min() > 0.5 and values.max() < 1.3
