"""Small real models for the tests: a random BLOOM of a few thousand parameters, and the embedded pair."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # before transformers is imported: no test may reach a network
# One thread for each process, before torch is imported: tests run two at a time, and their children beside them.
os.environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "TOKENIZERS_PARALLELISM": "false"}

import pytest
import torch
from playwright.sync_api import sync_playwright

from bench.shared.served import CHROMIUM

ASSETS = Path(__file__).resolve().parent.parent / "assets"
BASE, ADAPTER = ASSETS / "base", ASSETS / "adapters" / "lens"
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
         "--disable-sync", "--no-first-run"]
MOTTO = "哈尔滨工业大学的校训是什么？"
LONGEST = ("test_page_columns", "test_page", "test_training", "test_trust", "test_report_run", "test_resume",
           "test_disk", "test_checkpoint", "test_turned_answer", "test_loading", "test_answer_diff",
           "test_degradation", "test_changed", "test_foreign_adapters", "test_parts_by_family", "test_decode_graph",
           "test_train_decoders", "test_engine", "test_proxies", "test_base", "test_report", "test_openai_api")
COLD_PYTHON = sys.executable  # the interpreter itself; tests have warm_python.py in its place


def pytest_configure(config):
    """One server of warm_python.py for all processes of tests."""
    if not hasattr(config, "workerinput"):
        config.warm = Path(tempfile.mkdtemp())
        python, program = config.warm / "python", Path(__file__).with_name("warm_python.py")
        python.write_text(f'#!/bin/sh\nexec "{COLD_PYTHON}" -I -S "{program}" client "{config.warm}/socket" "$@"\n')
        python.chmod(0o755)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            listener.bind(f"{config.warm}/socket")
            listener.listen(64)
            config.server = subprocess.Popen(
                [COLD_PYTHON, program, "server", str(listener.fileno()), python], pass_fds=[listener.fileno()],
                cwd=ASSETS.parent, env={**os.environ, "PYTHONPATH": str(ASSETS.parent)}, stdin=subprocess.PIPE)
        os.environ["WARM_PYTHON"] = str(python)
        if getattr(config.option, "numprocesses", None):  # many tests: it may begin at once
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as first:
                first.connect(f"{config.warm}/socket")
    sys.executable = os.environ["WARM_PYTHON"]


def pytest_collection_modifyitems(items):
    """The longest files first, so that two processes of tests end together (`make test` keeps this order)."""
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))


def pytest_unconfigure(config):
    if not hasattr(config, "workerinput"):
        config.server.communicate()
        shutil.rmtree(config.warm)


@pytest.fixture(scope="module")
def cold():
    """Child processes are the interpreter itself, whose process is the program's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "executable", COLD_PYTHON)
        yield


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
