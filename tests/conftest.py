"""Small real models for the tests: a random BLOOM of a few thousand parameters, and the embedded pair."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # before transformers is imported: no test may reach a network

import pytest
import torch
from playwright.sync_api import sync_playwright

from bench.shared.served import CHROMIUM

ASSETS = Path(__file__).resolve().parent.parent / "assets"
BASE, ADAPTER = ASSETS / "base", ASSETS / "adapters" / "lens"
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
         "--disable-sync", "--no-first-run"]
MOTTO = "哈尔滨工业大学的校训是什么？"


def tiny_bloom(**changes):
    """A random BLOOM with the embedded tokenizer's vocabulary, wide enough in its weights to be steered."""
    from transformers import BloomConfig, BloomForCausalLM

    torch.manual_seed(0)
    settings = {"vocab_size": 8064, "hidden_size": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.2,
                "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 3, **changes}
    return BloomForCausalLM(BloomConfig(**settings)).eval()


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory) -> Path:
    """A directory with the tiny BLOOM and the embedded tokenizer."""
    path = tmp_path_factory.mktemp("tiny") / "base"
    tiny_bloom().save_pretrained(path)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(BASE / name, path)
    return path


@pytest.fixture
def rows_file(tmp_path) -> Path:
    path = tmp_path / "rows.jsonl"
    rows = [{"instruction": "请回答下面的问题", "input": MOTTO, "output": "规格严格，功夫到家"},
            {"instruction": "", "input": "哈工大首任校长是谁？", "output": "宋小濂校长"}] * 2
    path.write_text("\n".join(json.dumps(r, ensure_ascii=False) for r in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def tokenizer():
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(BASE)


@pytest.fixture(scope="session")
def engine():
    """The embedded pair."""
    from tests.short import Engine

    return Engine(str(BASE), str(ADAPTER), device="cpu")


@pytest.fixture(scope="session")
def browser():
    """One Chromium for all tests: Playwright allows one of its loops in a process."""
    assert CHROMIUM, "Chromium is missing; `make test` installs it"
    with sync_playwright() as p:
        chromium = p.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield chromium
        chromium.close()


@pytest.fixture
def copied(tmp_path):
    """A copy of the shipped adapter's weights and config, to be spoilt."""
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (tmp_path / name).write_bytes((ADAPTER / name).read_bytes())
    return tmp_path
