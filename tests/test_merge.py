"""python -m train.merge: the merged model answers as the adapter does, and a crafted adapter is refused."""

from __future__ import annotations

import json

import pytest
import torch
from training import records, run, six_steps

from lens.errors import BadAdapter


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
        with pytest.raises(BadAdapter, match=said):
            merge(evil, str(tiny_base), tmp_path / "merged")
        assert not (tmp_path / "merged").exists()

    refused("ln_f.weight", {**weights, "base_model.model.transformer.ln_f.weight": torch.zeros(32)})
    refused("has no lora_", dict(list(weights.items())[:3]))
    refused("allowed: 1 to 1,024", weights, r=10**9)
    refused("target_modules .*allowed", weights, target_modules=["lm_head"])
    refused("init_lora_weights is 'pissa'", weights, init_lora_weights="pissa")
