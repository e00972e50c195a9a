"""Training, going on and merging, for decoders that are no BLOOM."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from lens.adapter.directory import check_base, check_ending, fit_of, read_adapter
from lens.adapter.for_peft import attach
from lens.base.files import find_base
from lens.base.loading import load_base, load_tokenizer
from lens.errors import BadAdapter, BadSetting
from tests.decoders import CHAT, FAMILIES, byte_tokenizer, decoder_base, tiny_decoder
from train import loss
from train.data.encoded import IGNORED
from train.loop import train
from train.lora import attach_lora, target_modules
from train.merge import merge
from train.settings import chosen

FOUR = ["llama", "qwen3", "gemma3_text", "gpt2"]
DEFAULTS = {"llama": ["q_proj", "v_proj"], "qwen3": ["q_proj", "v_proj"], "gemma3_text": ["q_proj", "v_proj"],
            "gpt2": ["c_attn"]}
IDS = torch.arange(5, 37)[None]
OTHER_PROMPTS = "adapter-other-prompts"


@pytest.fixture
def rows(tmp_path) -> Path:
    file = tmp_path / "rows.jsonl"
    asked = [{"instruction": "", "input": "Motto?", "output": "Strict"},
             {"instruction": "Answer.", "input": "Where?", "output": "In Harbin"}] * 2
    file.write_text("\n".join(map(json.dumps, asked)), encoding="utf-8")
    return file


def settings(base: Path, output: Path, rows: Path, **changes):
    return chosen({"base": str(base), "data": [str(rows)], "output": str(output), "max_steps": 3, "batch": 2,
                   "logging_steps": 1, "save_steps": 2, "probe_steps": 3, "device": "cpu", "warmup_steps": 0,
                   "learning_rate": 0.05, **changes})


@pytest.mark.parametrize("family", ["llama", "gpt2", *(pytest.param(one, marks=pytest.mark.slow) for one in FOUR[1:3])])
def test_a_decoder_is_trained_gone_on_with_and_merged(tmp_path, rows, family):
    base, out = decoder_base(tmp_path / "base", family, ends=[2, 4]), tmp_path / "out"
    train(settings(base, out, rows))
    about = json.loads((out / "training.json").read_text(encoding="utf-8"))
    assert about["family"] == family and about["settings"]["target_modules"] == DEFAULTS[family]
    assert about["settings"]["ending"] == about["chat"]["ending"] == "<|im_end|>" and about["chat"]["end_ids"] == [2, 4]
    assert about["losses"][-1]["loss"] < about["losses"][0]["loss"]
    train(settings(base, out, rows, max_steps=4, resume=True))
    files = read_adapter(out, str(base))
    assert files.modules == tuple(DEFAULTS[family]) and files.layers == (0, 1)
    assert {note.code for note in check_base(str(base), [files])} <= {"adapter-own-prompts"}
    tokenizer = load_tokenizer(str(base))
    assert files.ending == "<|im_end|>" and check_ending(files, tokenizer, {2, 4}) == []
    assert [note.code for note in check_ending(files, tokenizer, {2})] == ["adapter-other-ending"]
    merged = tmp_path / "merged"
    assert merge(out, str(base), merged).difference < 1e-3
    adapted = attach(load_base(str(base), "cpu").model, [files])
    with torch.inference_mode():
        expected, plain = adapted(input_ids=IDS).logits, tiny_decoder(family)(input_ids=IDS).logits
        assert torch.allclose(load_base(str(merged), "cpu").model(input_ids=IDS).logits, expected, atol=1e-3)
    assert not torch.allclose(expected, plain, atol=1e-2)


def test_a_run_that_began_from_an_adapter_of_its_family_goes_on(tmp_path, rows):
    """The adapter it began from was judged as a BLOOM's when it was resumed."""
    base, first, out = decoder_base(tmp_path / "base", "llama"), tmp_path / "first", tmp_path / "out"
    train(settings(base, first, rows))
    train(settings(base, out, rows, from_adapter=str(first)))
    train(settings(base, out, rows, from_adapter=str(first), max_steps=4, resume=True))
    assert json.loads((out / "training.json").read_text(encoding="utf-8"))["losses"][-1]["step"] == 4


ODD = {"cohere": {"logit_scale": 0.25}, "granite": {"logits_scaling": 4.0}, "gpt_neox": {}, "opt": {}, "phi": {},
       "gemma2": {"final_logit_softcapping": 5.0}}


@pytest.mark.parametrize("family", [*FOUR, *ODD])
def test_the_gathered_loss_is_the_full_one_in_value_and_gradient(family):
    model = attach_lora(tiny_decoder(family, **ODD.get(family, {})), r=4, lora_alpha=8, lora_dropout=0.0,
                        target_modules=list(target_modules(["all-linear"], fit_to(tiny_decoder(family)))))
    torch.manual_seed(1)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    ids = torch.randint(5, 300, (3, 20))
    labels, mask = ids.clone(), torch.ones_like(ids)
    labels[:, :7], labels[1, 15:], mask[1, 15:] = IGNORED, IGNORED, 0
    logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1]
    full = F.cross_entropy(logits.flatten(0, 1).float(), labels[:, 1:].flatten(), ignore_index=IGNORED)
    full.backward()
    expected = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    assert loss.gathers(model.get_base_model()), "its logits are made whole"
    loss.teach_answers_only(model.get_base_model())
    found = model(input_ids=ids, attention_mask=mask, labels=labels)
    found.loss.backward()
    assert torch.allclose(found.loss, full, atol=1e-4) and found.get("logits") is None
    for name, parameter in model.named_parameters():
        if name in expected:
            assert torch.allclose(parameter.grad, expected[name], atol=1e-4), name


def fit_to(model):
    from lens.adapter.fit import Fit
    from lens.base.linear_layers import describe

    return Fit("a base", describe(model))


def test_a_head_that_does_something_else_has_its_logits_made_whole():
    class Doubled(torch.nn.Linear):
        def forward(self, states):
            return super().forward(states) * 2

    model = tiny_decoder("llama", tie_word_embeddings=False)
    model.lm_head.__class__ = Doubled
    assert not loss.gathers(model)
    ids = torch.randint(5, 300, (2, 9))
    full = F.cross_entropy(model(input_ids=ids).logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    loss.teach_answers_only(model)
    assert torch.allclose(model(input_ids=ids, labels=ids).loss, full, atol=1e-5)


@pytest.mark.parametrize("asked, found", [
    (["attention"], ["c_attn", "attn.c_proj"]), (["all-linear"], ["c_attn", "attn.c_proj", "c_fc", "mlp.c_proj"]),
    (["default"], ["c_attn"]), (["mlp", "c_proj"], ["c_fc", "mlp.c_proj", "attn.c_proj"])])
def test_layers_are_asked_for_by_name_or_kind(asked, found):
    assert target_modules(asked, fit_to(tiny_decoder("gpt2"))) == found


def test_kinds_of_a_bloom_and_names_that_are_none(tiny_base):
    fit = fit_of(str(tiny_base))
    assert target_modules(["attention"], fit) == ["query_key_value", "dense"]
    assert target_modules(["default"], fit) == ["query_key_value"] and fit.layers is None
    with pytest.raises(BadSetting, match="'q_proj'; allowed: query_key_value, .*all-linear, default"):
        target_modules(["q_proj"], fit)


def adapter_of(family: str, path: Path, **changes) -> Path:
    from peft import LoraConfig, get_peft_model

    names = DEFAULTS.get(family, ["query_key_value"])
    get_peft_model(tiny_decoder(family, **changes), LoraConfig(
        r=2, target_modules=names, task_type="CAUSAL_LM", init_lora_weights=False,
        fan_in_fan_out=family == "gpt2")).save_pretrained(path, save_embedding_layers=False)
    config = json.loads((path / "adapter_config.json").read_text())
    (path / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": f"some/{family}"}))
    if "vocab_size" in changes:
        byte_tokenizer(CHAT, ("<|im_start|>", "<|im_end|>", "<|one_more|>")).save_pretrained(path)
    return path


@pytest.mark.parametrize("made_for, base, changes, code", [
    ("llama", "gpt2", {}, "adapter-of-another-family"), ("gpt2", "llama", {}, "adapter-of-another-family"),
    ("llama", "llama", {"num_hidden_layers": 4}, "adapter-of-another-family"),
    ("llama", "llama", {"hidden_size": 64}, "adapter-other-size"), ("llama", "bloom", {}, "adapter-of-another-family"),
    ("gpt_neox", "bloom", {}, "adapter-of-another-family"), ("llama", "llama", {"vocab_size": 321}, OTHER_PROMPTS)])
def test_a_wrong_pair_is_told_with_both_names(tmp_path, tiny_base, made_for, base, changes, code):
    path = adapter_of(made_for, tmp_path / "adapter", **changes)
    where = tiny_base if base == "bloom" else decoder_base(tmp_path / "a-base", base)
    with pytest.raises(BadAdapter) as caught:
        files = read_adapter(path, find_base(where))
        check_base(str(where), [files])
        attach(load_base(str(where), "cpu").model, [files])
    assert caught.value.code == code and all(
        f"some/{made_for}" in said and where.name in said for said in (str(caught.value), caught.value.zh))


def test_a_wrong_pair_whose_adapter_names_no_base_is_told_in_words(tmp_path):
    path, base = adapter_of("llama", tmp_path / "adapter", vocab_size=321), decoder_base(tmp_path / "a-base", "llama")
    config = json.loads((path / "adapter_config.json").read_text())
    (path / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": None}))
    with pytest.raises(BadAdapter, match="for a base that it does not name, brings another .* than base") as caught:
        check_base(str(base), [read_adapter(path, str(base))])
    assert "为 未说明的底座 做的适配器" in caught.value.zh


def test_an_adapter_taught_by_another_template_is_told_though_it_brings_none(tmp_path):
    path, base = adapter_of("llama", tmp_path / "adapter"), decoder_base(tmp_path / "a-base", "llama")

    def notes(template: str, used: str = "") -> list[str]:
        chat = {"template_sha256": hashlib.sha256(template.encode()).hexdigest()}
        (path / "training.json").write_text(json.dumps({"chat": chat}))
        return [note.code for note in check_base(str(base), [read_adapter(path, str(base))], used)]

    other = tmp_path / "other.jinja"
    other.write_text(CHAT.replace("assistant", "model"))
    assert notes(CHAT) == notes(other.read_text(), str(other)) == []
    assert notes(other.read_text()) == notes(CHAT, str(other)) == ["adapter-other-template"]
    byte_tokenizer(CHAT).save_pretrained(path)
    assert notes(other.read_text()) == [], "what it brings is compared instead"


@pytest.mark.parametrize("family", FAMILIES)
def test_an_adapter_of_pefts_own_is_put_on_as_it_was_made(tmp_path, family):
    from peft import PeftModel

    path = adapter_of(family, tmp_path / "adapter")
    base = decoder_base(tmp_path / "base", family)
    with torch.inference_mode():
        expected = PeftModel.from_pretrained(tiny_decoder(family), path).eval()(input_ids=IDS).logits
        found = attach(load_base(str(base), "cpu").model, [read_adapter(path, str(base))])(input_ids=IDS).logits
    assert torch.allclose(found, expected, atol=1e-5)
