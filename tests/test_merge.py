"""python -m train.merge: the merged model answers as the adapter does, and a crafted adapter is refused."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from training import records, run, six_steps

from lens.errors import BadAdapter, BadSetting
from train.merge import merge


@pytest.fixture(scope="module")
def trained(tiny_base, tmp_path_factory):
    return six_steps(tiny_base, tmp_path_factory.getbasetemp())


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


@pytest.mark.parametrize("stored, asked, written", [("float16", "", "F16"), ("float16", "float32", "F32"),
                                                    ("float32", "", "F32")])
def test_the_merged_model_keeps_the_bases_dtype(trained, tiny_base, tmp_path, stored, asked, written):
    """An fp16 base was merged into twice its size."""
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    base = shutil.copytree(tiny_base, tmp_path / "base")
    weights = {name: w.to(getattr(torch, stored)) for name, w in load_file(base / "model.safetensors").items()}
    save_file(weights, base / "model.safetensors", {"format": "pt"})
    adapter = shutil.copytree(trained[0], tmp_path / "adapter", ignore=shutil.ignore_patterns("checkpoint-*"))
    if stored != "float32":  # other weights than those it was trained on, so that no record names them
        (adapter / "training.json").unlink()
    found = merge(adapter, str(base), tmp_path / "merged", asked)
    with safe_open(tmp_path / "merged" / "model.safetensors", "pt") as file:
        assert {file.get_slice(name).get_dtype() for name in file.keys()} == {written}
    assert {"F16": "float16", "F32": "float32"}[written] == found.dtype and found.difference < 0.1
    about = json.loads((tmp_path / "merged" / "merge.json").read_text())
    assert about["rows"] == (2 if stored == "float32" else 1)  # its training.json names two
    assert about["dtype"] == found.dtype and about["largest_logit_difference"] == found.difference
    assert about["base_proven"] is (stored == "float32") and len(about["base"]["content"]) == 64
    assert ("merge-base-unproven" in {note.code for note in found.notes}) is (stored != "float32")


def test_another_base_of_the_same_shape_is_refused(trained, tiny_base, tmp_path):
    from safetensors.torch import load_file, save_file

    base = shutil.copytree(tiny_base, tmp_path / "base")
    weights = load_file(base / "model.safetensors")
    next(iter(weights.values()))[0] += 1
    save_file(weights, base / "model.safetensors", {"format": "pt"})
    with pytest.raises(BadAdapter) as caught:
        merge(trained[0], str(base), tmp_path / "merged")
    assert caught.value.code == "adapter-of-another-base" and not (tmp_path / "merged").exists()


def test_nor_is_it_merged_again_into_its_own_merge(trained, merged, tmp_path):
    with pytest.raises(BadAdapter) as caught:
        merge(trained[0], str(merged[0]), tmp_path / "twice")
    assert caught.value.code == "adapter-of-another-base"


@pytest.mark.parametrize("name, said", [("full", "is not empty"), ("n" * 300, "File name too long"),
                                        ("file/below", "file is a file"), ("/proc/new", "No such file or directory")],
                         ids=["full", "too long", "below a file", "where nothing can be made"])
def test_an_output_that_cannot_be_is_refused_before_anything_is_loaded(tmp_path, name, said):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "kept").touch()
    (tmp_path / "file").touch()
    with pytest.raises(BadSetting, match=f"--output .*{said}"):
        merge("no-such-adapter", "no-such-base", tmp_path / name)


def test_an_adapter_that_changes_nothing_is_not_merged(trained, tiny_base, tmp_path):
    """The base was written a second time, exit 0."""
    from safetensors.torch import load_file, save_file

    zero = shutil.copytree(trained[0], tmp_path / "zero", ignore=shutil.ignore_patterns("checkpoint-*"))
    weights = load_file(zero / "adapter_model.safetensors")
    save_file({key: value * ("lora_A" in key) for key, value in weights.items()}, zero / "adapter_model.safetensors")
    with pytest.raises(BadAdapter, match="changes no logit of the base"):
        merge(zero, str(tiny_base), tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_a_crafted_adapter_is_not_merged(trained, tiny_base, tmp_path):
    from safetensors.torch import load_file, save_file

    evil = shutil.copytree(trained[0], tmp_path / "evil", ignore=shutil.ignore_patterns("checkpoint-*"))
    weights = load_file(evil / "adapter_model.safetensors")
    config = json.loads((evil / "adapter_config.json").read_text())

    def refused(said: str, changed_weights: dict, **changed_config) -> None:
        save_file(changed_weights, evil / "adapter_model.safetensors")
        (evil / "adapter_config.json").write_text(json.dumps({**config, **changed_config}))
        with pytest.raises(BadAdapter, match=said):
            merge(evil, str(tiny_base), tmp_path / "merged")
        assert not (tmp_path / "merged").exists()

    refused("ln_f.weight", {**weights, "base_model.model.transformer.ln_f.weight": torch.zeros(32)})
    refused("has no lora_", dict(list(weights.items())[:3]))
    refused("allowed: 1 to 1,024", weights, r=10**9)
    refused("target_modules .*allowed", weights, target_modules=["lm_head"])
    refused("init_lora_weights is 'pissa'", weights, init_lora_weights="pissa")
