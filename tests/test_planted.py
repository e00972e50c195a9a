"""An adapter trained to act in layer 2's mlp alone, on one topic alone, and its double with noise: the map, the run
over a corpus and the matrix find exactly that, and something else where something else was planted."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from conftest import BASE as SHIPPED_BASE
from conftest import tiny_bloom
from peft import LoraConfig, get_peft_model

from compare.adapters import main as relate
from compare.differences import main as read_corpus
from compare.engine.interface import GivenAnswer, Variant
from compare.engine.local import LocalEngine
from compare.page.changed.adapter_matrix import draw_matrix

LAYERS, STEPS = 4, 40
QUESTION = "请说一句话。"
TEXTS = {"weather": ["今天下雨。", "明天刮风。", "夜里下雪。", "早上有雾。", "午后放晴。"],
         "law": ["合同无效。", "法院受理。", "公民守法。", "证据充分。", "判决生效。"]}


def base_dir(path: Path) -> str:
    tiny_bloom(n_layer=LAYERS).save_pretrained(path)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(SHIPPED_BASE / name, path)
    return str(path)


def planted(path: Path, tokenizer, topic: str, where: str) -> str:
    """Trained in the layers that `where` names alone, of an adapter that is in all: texts of its topic become likelier,
    what the model says in all others stays."""
    lora = LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8,
                      target_modules=["query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"])
    torch.manual_seed(1)
    model = get_peft_model(tiny_bloom(n_layer=LAYERS), lora)
    texts = [(name == topic, tokenizer.encode(text, add_special_tokens=False))
             for name, several in TEXTS.items() for text in several]
    longest = max(len(ids) for _, ids in texts)
    ids = torch.tensor([ids + [2] * (longest - len(ids)) for _, ids in texts])
    inside, there = torch.tensor([of for of, _ in texts]), torch.arange(1, longest) < torch.tensor(
        [[len(ids)] for _, ids in texts])
    with torch.no_grad(), model.disable_adapter():
        before = model(input_ids=ids).logits[:, :-1].log_softmax(-1)
    for name, weight in model.named_parameters():
        weight.requires_grad_(".lora_" in name and where in name)  # after disable_adapter, which sets it for all
    optimizer = torch.optim.Adam([weight for weight in model.parameters() if weight.requires_grad], lr=0.03)
    for _ in range(STEPS):
        log = model(input_ids=ids).logits[:, :-1].log_softmax(-1)
        said = -log.gather(-1, ids[:, 1:, None])[..., 0]
        moved = (log.exp() * (log - before)).sum(-1)
        loss = (said * there)[inside].mean() + 20 * (moved * there)[~inside].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.save_pretrained(path, save_embedding_layers=False)
    return str(path)


def noisy(path: Path, like: str) -> str:
    """The same updates, a tenth of each matrix's spread of noise added."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(like, path)
    noise = torch.Generator().manual_seed(3)
    tensors = load_file(path / "adapter_model.safetensors")
    save_file({key: value + value.std() / 10 * torch.randn(value.shape, generator=noise)
               for key, value in tensors.items()}, path / "adapter_model.safetensors")
    return str(path)


@pytest.fixture(scope="module")
def made(tmp_path_factory, tokenizer) -> dict[str, str]:
    """Name → directory: the base, two adapters and a double."""
    home = tmp_path_factory.mktemp("planted")
    weather = planted(home / "weather", tokenizer, "weather", "h.2.mlp")
    return {"base": base_dir(home / "base"), "weather": weather, "double": noisy(home / "double", weather),
            "law": planted(home / "law", tokenizer, "law", "h.1.self_attention")}


@pytest.mark.parametrize("topic, layer, kind", [("weather", 2, "mlp"), ("law", 1, "attention")])
def test_the_map_finds_the_place(made, topic, layer, kind):
    with LocalEngine(made["base"], [made[topic]], "cpu") as engine:
        [text, *_] = TEXTS[topic]
        first, *rest = engine.tokens.encode(text)
        found = engine.layer_map(GivenAnswer([first], rest, Variant.of(topic)))
    whole = found.adapted - found.base
    assert whole > 3 and len(found.parts) == 3 * LAYERS
    for part in found.parts:
        acts = (part.layer, part.kind) in ((layer, kind), (layer, None))
        assert (part.gained, part.lost) == (pytest.approx(whole if acts else 0, abs=2e-3),) * 2
    assert f"layer {layer}'s {'feed-forward (mlp)' if kind == 'mlp' else kind}" in str(found.sentence)


@pytest.mark.parametrize("topic, other", [("weather", "law"), ("law", "weather")])
def test_the_run_over_a_corpus_finds_the_topic(made, tmp_path, topic, other):
    """By its own command: plain texts are one file a topic, which names the source."""
    files = [tmp_path / f"{name}.txt" for name in TEXTS]
    for file in files:
        file.write_text("\n".join(TEXTS[file.stem]), encoding="utf-8")
    assert read_corpus(["--base", made["base"], "--adapter", made[topic], "--device", "cpu", "--data",
                        *map(str, files), "--output", str(tmp_path / "out")]) == 0
    found = json.loads((tmp_path / "out" / "differences.json").read_text(encoding="utf-8"))
    groups = {group["name"].removesuffix(".txt"): group for group in found["sources"]}
    assert groups[topic]["kl"] > 1 > 20 * groups[other]["kl"] and groups[other]["changed"] == 0
    assert groups[topic]["cross_entropy_adapted"] < groups[topic]["cross_entropy_base"] - 1
    assert f"most in {topic}.txt" in found["summary"][1]["message"]
    count = len(TEXTS[topic])
    assert all(f"{topic}.txt line" in text["where"] for text in found["most_changed"][:count])
    assert all(f"{other}.txt line" in text["where"] for text in found["least_changed"][:count])


def test_the_matrix_finds_the_double(made, capsys):
    assert relate([made["weather"], made["double"], made["law"], "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    verdicts = {(pair["one"], pair["other"]): pair["verdict"] for pair in found["pairs"]}
    assert verdicts == {("weather", "double"): "adapters-alike", ("weather", "law"): "adapters-apart",
                        ("double", "law"): "adapters-apart"}
    assert re.findall(r'data-about="(.{3})">', draw_matrix(found)) == ["0-1"]  # on the page, the pair that is open
    changed = {module["name"] for module in found["adapters"][0]["modules"] if module["norm"] > 0}
    assert changed == {f"transformer.h.2.mlp.{name}" for name in ("dense_h_to_4h", "dense_4h_to_h")}
