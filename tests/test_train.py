"""python -m train and train.merge, run as people run them, on a tiny BLOOM."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

PARTS = {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json", "tokenizer_config.json",
         "chat_template.jinja", "training.json", "README.md"}


def run(*args: object) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", *map(str, args)], capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def trained(tiny_base, tmp_path_factory):
    """An adapter directory of 6 steps, and what was said on the way."""
    rows = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    rows.write_text(json.dumps({"instruction": "", "input": "校训？", "output": "规格严格"}, ensure_ascii=False))
    out = tmp_path_factory.mktemp("out") / "adapter"
    done = run("train", "--base", tiny_base, "--data", rows, "--output", out, "--max-steps", 6, "--save-steps", 3,
               "--logging-steps", 1, "--learning-rate", 0.05, "--warmup-steps", 0, "--device", "cpu")
    assert done.returncode == 0, done.stderr
    return out, done


def test_the_adapter_directory_is_whole(trained):
    out, done = trained
    assert {p.name for p in out.iterdir() if p.is_file()} == PARTS
    assert done.stdout.strip() == str(out)
    assert "trainable params: 2,048 ||" in done.stderr
    about = json.loads((out / "training.json").read_text())
    assert about["recipe"] == "lens" and about["rows"] == 1 and len(about["base"]["sha256"]) == 64
    assert about["losses"][-1]["loss"] < about["losses"][0]["loss"]
    assert json.loads((out / "adapter_config.json").read_text())["base_model_name_or_path"] == "base"


def test_every_checkpoint_is_an_adapter_directory(trained):
    from compare.adapters import read_adapter

    out, _ = trained
    for step in (3, 6):
        checkpoint = out / f"checkpoint-{step}"
        assert PARTS <= {p.name for p in checkpoint.iterdir()}
        assert read_adapter(checkpoint).r == 8


def test_only_lora_is_saved_and_peft_reads_it(trained, tiny_base):
    from peft import PeftModel
    from safetensors import safe_open
    from transformers import AutoModelForCausalLM

    out, _ = trained
    with safe_open(out / "adapter_model.safetensors", "pt") as file:
        assert all("lora_A" in k or "lora_B" in k for k in file.keys())
    base = AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.float32).eval()
    ids = torch.arange(4, 24)[None]
    with torch.inference_mode():
        before = base(input_ids=ids).logits
        adapted = PeftModel.from_pretrained(base, out).eval()
        assert not torch.allclose(adapted(input_ids=ids).logits, before, atol=1e-3)


def test_the_merged_model_stands_alone(trained, tiny_base, tmp_path):
    from transformers import AutoModelForCausalLM

    from compare.engine import Engine

    out, _ = trained
    done = run("train.merge", out, "--base", tiny_base, "--output", tmp_path / "merged")
    assert done.returncode == 0, done.stderr
    engine = Engine(str(tiny_base), str(out), device="cpu")
    *_, columns = engine.compare("校训？")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    prompt = torch.tensor([engine.prompt.encode("校训？")])
    answer = merged.generate(prompt, max_new_tokens=128, do_sample=False)[0, prompt.shape[1]:].tolist()
    assert [t for t in answer if t != 2] == columns[1].token_ids
    assert columns[0].token_ids != columns[1].token_ids


def test_resume_goes_on_from_the_last_checkpoint(trained, tiny_base, rows_file):
    out, _ = trained
    done = run("train", "--base", tiny_base, "--data", rows_file, "--output", out, "--max-steps", 8, "--resume",
               "--device", "cpu", "--save-steps", 3, "--logging-steps", 1)
    assert done.returncode == 0, done.stderr
    steps = [h["step"] for h in json.loads((out / "training.json").read_text())["losses"]]
    assert steps == list(range(1, 9))


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


@pytest.mark.parametrize("command, said", BAD_COMMANDS, ids=[said for _, said in BAD_COMMANDS])
def test_bad_input_is_one_sentence_and_leaves_nothing(tmp_path, command, said):
    (tmp_path / "something").write_text("x")
    done = run(*[part.format(tmp=tmp_path) for part in command])
    lines = done.stderr.strip().splitlines()
    assert done.returncode == 2 and len(lines) == 1 and lines[0].startswith("error: ") and said in lines[0], done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["something"]
