"""A base as the hub ships BLOOM trains; one that is pickled, too small or no BLOOM is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from conftest import BASE, tiny_bloom
from training import records, settings

from lens.errors import BadBase
from train.loop import train

TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


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


def test_a_pickled_base_trains_as_it_does_in_safetensors(tmp_path, rows_file):
    from safetensors.torch import load_file

    base = hub_style(tmp_path / "hub")
    same = train(settings(base, tmp_path / "same", rows_file))
    state = {key: value for shard in base.glob("*.safetensors") for key, value in load_file(shard).items()}
    for shard in base.glob("*.safetensors*"):
        shard.unlink()
    torch.save(state, base / "pytorch_model.bin")
    with pytest.warns(UserWarning, match="pytorch_model.bin is pickled"):
        out = train(settings(base, tmp_path / "out", rows_file))
    bases = [json.loads((d / "training.json").read_text())["base"] for d in (out, same)]
    assert bases[0]["content"] == bases[1]["content"] and bases[0]["sha256"] is None
    assert [r["loss"] for r in records(out / "log.jsonl")] == [r["loss"] for r in records(same / "log.jsonl")]


def test_a_base_without_spare_rows_or_of_another_kind_is_refused(tmp_path, rows_file):
    base = hub_style(tmp_path / "hub")
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"vocab_size": 7000}))
    with pytest.raises(BadBase, match="7,000 rows, too few for"):
        train(settings(base, tmp_path / "out", rows_file))
    (base / "config.json").write_text(json.dumps({"model_type": "t5"}))
    with pytest.raises(BadBase, match="'t5' model"):
        train(settings(base, tmp_path / "out", rows_file))


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
