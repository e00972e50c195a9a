"""python -m train and train.merge, run as people run them, on a tiny BLOOM."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from conftest import BASE, MOTTO, tiny_bloom

from train.config import BadInput, make_settings
from train.loop import train
from train.settings import EMBEDDED_ROWS, PROBES, RECIPES, TrainSettings

PARTS = {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json", "tokenizer_config.json",
         "chat_template.jinja", "training.json", "README.md"}
LOGS = {"log.jsonl", "probes.jsonl", "loss.png"}
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


def run(*args: object) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", *map(str, args)], capture_output=True, text=True, timeout=300)


def records(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def trained(tiny_base, tmp_path_factory):
    """An adapter directory of 6 steps, and what was said on the way."""
    rows = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    rows.write_text(json.dumps({"instruction": "", "input": "校训？", "output": "规格严格"}, ensure_ascii=False))
    out = tmp_path_factory.mktemp("out") / "adapter"
    done = run("train", "--base", tiny_base, "--data", rows, "--output", out, "--max-steps", 6, "--save-steps", 3,
               "--logging-steps", 1, "--learning-rate", 0.05, "--warmup-steps", 0, "--device", "cpu",
               "--probe-steps", 4, "--probes", "校训？", "校长|是谁？", "--eval-data", rows, "--eval-steps", 3)
    assert done.returncode == 0, done.stderr
    return out, done


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
    from compare.adapters import read_adapter

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


@pytest.fixture(scope="module")
def merged(trained, tiny_base, tmp_path_factory):
    out = tmp_path_factory.mktemp("merged") / "model"
    done = run("train.merge", trained[0], "--base", tiny_base, "--output", out)
    assert done.returncode == 0, done.stderr
    return out, done


def test_the_merged_model_stands_alone_and_answers_as_the_adapter(trained, tiny_base, merged):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    out, done = merged
    assert done.stdout.strip() == str(out) and "base " in done.stderr and "unmerged " in done.stderr
    load = AutoModelForCausalLM.from_pretrained
    base, alone = load(tiny_base, dtype=torch.float32).eval(), load(out, dtype=torch.float32).eval()
    ids = torch.arange(4, 24)[None]
    with torch.inference_mode():
        plain = base(input_ids=ids).logits
        adapted = PeftModel.from_pretrained(base, trained[0]).eval()(input_ids=ids).logits
        assert torch.allclose(alone(input_ids=ids).logits, adapted, atol=1e-4)
    assert not torch.allclose(plain, adapted, atol=1e-2)


def test_a_pipeline_answers_with_the_saved_template(trained, merged, tiny_base):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline

    messages = [{"role": "system", "content": ""}, {"role": "user", "content": "校训？"}]
    adapted = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.float32),
                                        trained[0])
    texts = []
    for model in (adapted, AutoModelForCausalLM.from_pretrained(merged[0], dtype=torch.float32)):
        answer = pipeline("text-generation", model=model, tokenizer=AutoTokenizer.from_pretrained(trained[0]))
        texts.append(answer(messages, max_new_tokens=64, do_sample=False)[0]["generated_text"][-1]["content"])
    probe = next(p for p in records(trained[0] / "probes.jsonl") if p["step"] == 6)
    assert texts == [probe["answer"]] * 2


def test_a_crafted_adapter_is_not_merged(trained, tiny_base, tmp_path):
    import shutil

    from safetensors.torch import load_file, save_file

    from train.merge import merge

    evil = shutil.copytree(trained[0], tmp_path / "evil", ignore=shutil.ignore_patterns("checkpoint-*"))
    weights = load_file(evil / "adapter_model.safetensors")
    config = json.loads((evil / "adapter_config.json").read_text())

    def refused(said: str, changed_weights: dict, **changed_config) -> None:
        save_file(changed_weights, evil / "adapter_model.safetensors")
        (evil / "adapter_config.json").write_text(json.dumps({**config, **changed_config}))
        with pytest.raises(BadInput, match=said):
            merge(evil, str(tiny_base), tmp_path / "merged")
        assert not (tmp_path / "merged").exists()

    refused("ln_f.weight", {**weights, "base_model.model.transformer.ln_f.weight": torch.zeros(32)})
    refused("has 3 matrices where 4 belong", dict(list(weights.items())[:3]))
    refused("allowed: 1 to 1024", weights, r=10**9)
    refused("target_modules is .*allowed", weights, target_modules=".*")
    refused("init_lora_weights is 'pissa'", weights, init_lora_weights="pissa")


def settings(base: object, output: Path, data: Path, **changes) -> TrainSettings:
    return make_settings(TrainSettings, {"base": str(base), "data": [str(data)], "output": str(output), "max_steps": 3,
                                         "batch": 2, "logging_steps": 1, "probe_steps": 0, "device": "cpu", **changes})


def hub_style(path: Path) -> Path:
    """A base as the hub ships BLOOM: keys without `transformer.`, fp16, two shards, a tokenizer without our markers."""
    from safetensors.torch import save_file

    state = {k.removeprefix("transformer."): v.half().contiguous() for k, v in tiny_bloom().state_dict().items()
             if k != "lm_head.weight"}
    path.mkdir()
    names = sorted(state)
    shards = [names[:len(names) // 2], names[len(names) // 2:]]
    files = [f"model-{i:05d}-of-00002.safetensors" for i in (1, 2)]
    for file, keys in zip(files, shards, strict=True):
        save_file({k: state[k] for k in keys}, path / file, {"format": "pt"})
    index = {"metadata": {}, "weight_map": {k: f for f, keys in zip(files, shards, strict=True) for k in keys}}
    (path / "model.safetensors.index.json").write_text(json.dumps(index))
    config = tiny_bloom().config.to_dict() | {"dtype": "float16", "architectures": ["BloomForCausalLM"]}
    (path / "config.json").write_text(json.dumps(config))
    for name in TOKENIZER[:2]:
        (path / name).write_bytes((BASE / name).read_bytes())
    return path


def test_a_checkpoint_as_the_hub_ships_it_trains(tmp_path, rows_file, tiny_base):
    out = train(settings(hub_style(tmp_path / "hub"), tmp_path / "out", rows_file))
    same = train(settings(tiny_base, tmp_path / "same", rows_file))
    hub, ours = ([r["loss"] for r in records(d / "log.jsonl")] for d in (out, same))
    assert hub == pytest.approx(ours, abs=0.02)  # fp16 rounds the weights
    assert (out / "chat_template.jinja").read_text() == (BASE / "chat_template.jinja").read_text()
    assert len(json.loads((out / "training.json").read_text())["base"]["sha256"]) == 64


def test_a_pickled_base_is_refused_with_the_way_out(tmp_path, rows_file):
    base = hub_style(tmp_path / "hub")
    for shard in base.glob("*.safetensors*"):
        shard.unlink()
    torch.save({}, base / "pytorch_model.bin")
    with pytest.raises(BadInput, match="holds pytorch_model.bin; allowed: safetensors.*save_pretrained"):
        train(settings(base, tmp_path / "out", rows_file))
    assert not (tmp_path / "out").exists()


def test_a_base_without_spare_rows_or_of_another_kind_is_refused(tmp_path, rows_file):
    base = hub_style(tmp_path / "hub")
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"vocab_size": 7000}))
    with pytest.raises(BadInput, match="7,000 rows, too few for"):
        train(settings(base, tmp_path / "out", rows_file))
    (base / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    with pytest.raises(BadInput, match="'gpt2' model; allowed: bloom"):
        train(settings(base, tmp_path / "out", rows_file))


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
    with pytest.raises(BadInput, match="rows.csv line 3"):
        train(settings(tiny_base, tmp_path / "out", rows, **asked))
    out = train(settings(tiny_base, tmp_path / "out", rows, **asked, skip_bad_rows=True))
    about = json.loads((out / "training.json").read_text())
    assert (about["rows"], about["skipped_rows"]) == (1, 1)
    assert "1 bad rows left out" in (out / "README.md").read_text()


def test_the_result_is_pushed_without_its_checkpoints(tmp_path, rows_file, tiny_base, monkeypatch):
    from huggingface_hub import HfApi

    calls = []
    monkeypatch.setattr(HfApi, "create_repo", lambda self, repo, **k: calls.append(("create", repo)) or "ADDRESS")
    monkeypatch.setattr(HfApi, "upload_folder", lambda self, **k: calls.append(("upload", k)))
    out = train(settings(tiny_base, tmp_path / "out", rows_file, push_to_hub="me/adapter"))
    (_, repo), (_, upload) = calls
    assert repo == upload["repo_id"] == "me/adapter" and Path(upload["folder_path"]) == out
    from huggingface_hub.utils import filter_repo_objects

    files = [str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()]
    sent = set(filter_repo_objects(files, ignore_patterns=upload["ignore_patterns"]))
    assert sent == PARTS | {"log.jsonl", "loss.png"} and len(files) > len(sent)


def test_a_push_that_fails_says_that_the_adapter_is_whole(tmp_path, rows_file, tiny_base):
    with pytest.raises(BadInput, match="--push-to-hub me/adapter failed .*the adapter is whole in"):
        train(settings(tiny_base, tmp_path / "out", rows_file, push_to_hub="me/adapter"))  # tests are offline
    assert PARTS <= {p.name for p in (tmp_path / "out").iterdir()}


def test_the_recipe_seed_is_the_original(tmp_path, rows_file, tiny_base):
    s = make_settings(TrainSettings, {"output": "x", "recipe": "seed", **RECIPES["seed"]})
    assert (s.batch, s.max_steps, s.learning_rate, s.warmup_steps, s.schedule) == (1, 1000, 1e-4, 100, "linear")
    assert (s.r, s.lora_alpha, s.lora_dropout, s.target_modules) == (8, 8, 0.05, ["query_key_value"])
    assert s.whole_text and s.dtype == "float16" and "</s>" not in s.ending


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
    ({"probes": ["a</s>"]}, "special token '</s>'"),
    ({"probes": [" "]}, "empty question"),
    ({"device": "cuda"}, "no CUDA GPU"),
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
    with pytest.raises(BadInput) as caught:
        train(settings(tiny_base, tmp_path / "out", rows_file, **changes))
    assert said in str(caught.value) and not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_shape_of_bloom_1b1_does_three_steps(tmp_path, rows_file):
    """Random weights in fp16 on disk as the hub ships them: 2.1 GB written, about 6 GB of memory."""
    from transformers import BloomConfig, BloomForCausalLM

    base = tmp_path / "bloom-1b1"
    with torch.device("meta"):
        model = BloomForCausalLM(BloomConfig(vocab_size=250880, hidden_size=1536, n_layer=24, n_head=16,
                                             bos_token_id=1, eos_token_id=2, pad_token_id=3))
    model = model.half().to_empty(device="cpu")
    model.tie_weights()
    torch.manual_seed(0)
    for name, weight in model.named_parameters():
        scale = "layernorm.weight" in name or "ln_f.weight" in name
        weight.data.fill_(1) if scale else weight.data.normal_(0, 0.02)
    model.save_pretrained(base)
    del model
    for name in TOKENIZER:
        (base / name).write_bytes((BASE / name).read_bytes())
    out = train(settings(base, tmp_path / "out", rows_file))
    log = records(out / "log.jsonl")
    assert [r["step"] for r in log] == [1, 2, 3] and all(r["loss"] < 20 for r in log)
    assert json.loads((out / "training.json").read_text())["parameters"]["trainable"] == 1_179_648
