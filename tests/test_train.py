"""python -m train, run as people run it, on a tiny BLOOM: what it writes, and what its settings do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from conftest import MOTTO
from training import PARTS, records, settings, six_steps

from lens.declared_settings import make_settings
from lens.embedded import EMBEDDED_ROWS
from lens.errors import LensError
from train.loop import train
from train.record import card as module
from train.settings import PROBES, RECIPES, TrainSettings

LOGS = {"log.jsonl", "probes.jsonl", "loss.png"}


@pytest.fixture(scope="module")
def trained(tiny_base, tmp_path_factory):
    return six_steps(tiny_base, tmp_path_factory.getbasetemp())


def test_the_adapter_directory_is_whole(trained):
    out, done = trained
    assert {p.name for p in out.iterdir() if p.is_file()} == PARTS | LOGS
    assert done.stdout.strip() == str(out)
    assert "trainable params: 2,048 ||" in done.stderr and "first row" in done.stderr
    about = json.loads((out / "training.json").read_text())
    assert about["recipe"] == "lens" and about["rows"] == 1 and len(about["base"]["sha256"]) == 64
    assert about["losses"][-1]["loss"] < about["losses"][0]["loss"]
    assert json.loads((out / "adapter_config.json").read_text())["base_model_name_or_path"] == "base"
    assert str(out.parent) not in (out / "training.json").read_text() + (out / "README.md").read_text()


def test_every_checkpoint_is_an_adapter_directory(trained):
    from lens.adapter.directory import read_adapter

    out, _ = trained
    for step in (3, 6):
        checkpoint = out / f"checkpoint-{step}"
        assert PARTS <= {p.name for p in checkpoint.iterdir()}
        assert read_adapter(checkpoint).r == 8


def test_the_log_tells_every_step_and_the_picture_is_one(trained):
    out, done = trained
    log = records(out / "log.jsonl")
    steps = [r for r in log if "loss" in r]
    assert [r["step"] for r in steps] == [1, 2, 3, 4, 5, 6]
    assert [r["step"] for r in log if "eval_loss" in r] == [3, 6]
    assert all(set(r) == {"step", "loss", "learning_rate", "tokens_per_second", "memory"} for r in steps)
    assert steps[0]["learning_rate"] == 0.05 > steps[1]["learning_rate"]
    assert all(r["tokens_per_second"] > 1 and 50e6 < r["memory"] < 50e9 for r in steps)
    assert f"step 6 of 6: loss {steps[-1]['loss']:.4f}" in done.stderr
    assert (out / "loss.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_the_probes_are_answered_as_generate_answers_them(trained, tiny_base):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    out, done = trained
    kept = records(out / "probes.jsonl")
    assert [(p["step"], p["question"]) for p in kept] == [(s, q) for s in (4, 6) for q in ("校训？", "校长|是谁？")]
    tokenizer = AutoTokenizer.from_pretrained(out)
    base = AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.float32)
    model = PeftModel.from_pretrained(base, out).eval()
    for probe in kept[2:]:
        prompt = tokenizer.apply_chat_template(
            [{"role": "system", "content": ""}, {"role": "user", "content": probe["question"]}],
            add_generation_prompt=True, return_tensors="pt")["input_ids"]
        ids = model.generate(input_ids=prompt, max_new_tokens=64, do_sample=False)[0, prompt.shape[1]:].tolist()
        assert probe["answer"] == tokenizer.decode(ids, skip_special_tokens=True)
        assert probe["finish"] == ("stop" if 2 in ids else "length")
        assert probe["answer"] in done.stderr


def test_the_card_says_what_was_done(trained):
    out, _ = trained
    card = (out / "README.md").read_text(encoding="utf-8")
    about = json.loads((out / "training.json").read_text())
    first, last = about["losses"][0]["loss"], about["losses"][-1]["loss"]
    assert f"Training loss {first:.4f} at step 1, {last:.4f} at step 6; held-out loss (1 rows)" in card
    assert "![loss over steps](loss.png)" in card and "| 校长\\|是谁？ |" in card and "| `max_steps` | `6` |" in card
    assert "](loss.png)" not in (out / "checkpoint-3" / "README.md").read_text(encoding="utf-8")


def test_the_record_says_what_happened(trained):
    import hashlib

    for out, steps in ((trained[0], 6), (trained[0] / "checkpoint-3", 3)):
        about = json.loads((out / "training.json").read_text())
        assert about["steps"] == steps and about["rows_seen"] == steps * 16
        assert about["weights_sha256"] == hashlib.sha256((out / "adapter_model.safetensors").read_bytes()).hexdigest()
        assert about["peak_memory"] > 10**7 and about["device_name"] and about["lineage"] is None
        assert [(s["from_step"], s["learning_rate"]) for s in about["in_force"]] == [(0, 0.05)]
        assert set(about["versions"]) >= {"python", "torch", "peft"} and len(about["rows_sha256"]) == 64


@pytest.mark.parametrize("base, data", [("bigscience/bloom-560m", [{"name": "Hello-SimpleAI/HC3-Chinese:all",
                                                                   "sha256": None}]),
                                        ("my base: a \"folder\"", [{"name": "rows.jsonl", "sha256": "0" * 64}])])
def test_the_hub_reads_the_cards_metadata(trained, base, data):
    """A folder's name is no name on the hub; a colon or quote in it broke the YAML."""
    from huggingface_hub import ModelCard
    from huggingface_hub.repocard import metadata_load

    about = json.loads((trained[0] / "training.json").read_text())
    card = ModelCard(module.card({**about, "base": {**about["base"], "name": base}, "data": data}))
    hub = base.count("/") == 1
    assert card.data.library_name == "peft" and card.data.base_model == (base if hub else None)
    assert card.data.datasets == (["Hello-SimpleAI/HC3-Chinese"] if hub else None) and "lora" in card.data.tags
    assert base in card.text
    assert metadata_load(trained[0] / "README.md")["library_name"] == "peft"


def test_a_card_is_made_of_the_record_alone(trained):
    out, _ = trained
    about = json.loads((out / "training.json").read_text())
    assert module.card(about, picture=True) == (out / "README.md").read_text(encoding="utf-8")


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


def test_accumulation_checkpointing_and_dtype_change_no_loss(tmp_path, rows_file, tiny_base):
    def losses(name: str, **changes) -> list[float]:
        out = train(settings(tiny_base, tmp_path / name, rows_file, learning_rate=0.02, warmup_steps=0, **changes))
        return [r["loss"] for r in records(out / "log.jsonl")]

    plain = losses("plain", lora_dropout=0.0)
    assert losses("parts", lora_dropout=0.0, batch=1, gradient_accumulation=2) == pytest.approx(plain, abs=1e-4)
    assert losses("twice", lora_dropout=0.0, activation_checkpointing=True) == pytest.approx(plain, abs=1e-4)
    assert losses("seed", lora_dropout=0.0, dtype="float16") == plain  # float16 is for GPUs
    assert losses("decay", lora_dropout=0.0, weight_decay=10.0) != plain


def test_probes_come_from_the_rows_and_do_not_disturb_them(tmp_path, rows_file, tiny_base):
    quiet = train(settings(tiny_base, tmp_path / "quiet", rows_file, lora_dropout=0.3))
    asked = train(settings(tiny_base, tmp_path / "asked", rows_file, lora_dropout=0.3, probe_steps=1))
    one, two = ([r["loss"] for r in records(d / "log.jsonl")] for d in (quiet, asked))
    assert one == two
    questions = {p["question"] for p in records(asked / "probes.jsonl")}
    assert questions == {MOTTO, "哈工大首任校长是谁？"}
    rows = {json.loads(line)["input"] for line in Path(EMBEDDED_ROWS).read_text(encoding="utf-8").splitlines()}
    assert len(PROBES) == 5 and set(PROBES) <= rows


def test_a_share_is_held_out_by_question(tmp_path, rows_file, tiny_base):
    out = train(settings(tiny_base, tmp_path / "out", rows_file, eval_share=0.5, eval_steps=1))
    about = json.loads((out / "training.json").read_text())
    assert (about["rows"], about["eval_rows"]) == (2, 2)
    assert [e["step"] for e in about["eval_losses"]] == [1, 2, 3]


def test_bad_rows_are_left_out_and_counted_where_asked(tmp_path, tiny_base):
    rows = tmp_path / "rows.csv"
    rows.write_text("question,answer\n校训？,规格严格\n校长？,\n", encoding="utf-8")
    asked = {"columns": ["input=question", "output=answer"]}
    with pytest.raises(LensError, match="rows.csv line 3"):
        train(settings(tiny_base, tmp_path / "out", rows, **asked))
    out = train(settings(tiny_base, tmp_path / "out", rows, **asked, skip_bad_rows=True))
    about = json.loads((out / "training.json").read_text())
    assert (about["rows"], about["skipped_rows"]) == (1, 1)
    assert "1 bad rows left out" in (out / "README.md").read_text()


def test_the_recipe_seed_is_the_original(tmp_path, rows_file, tiny_base):
    s = make_settings(TrainSettings, {"output": "x", "recipe": "seed", **RECIPES["seed"]})
    assert (s.batch, s.max_steps, s.learning_rate, s.warmup_steps, s.schedule) == (1, 1000, 1e-4, 100, "linear")
    assert (s.r, s.lora_alpha, s.lora_dropout, s.target_modules) == (8, 8, 0.05, ["query_key_value"])
    assert s.whole_text and s.dtype == "float16" and "</s>" not in s.ending
