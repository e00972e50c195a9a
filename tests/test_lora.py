"""LoRA on BLOOM: counts, an untrained adapter that changes nothing, a trained one that does."""

from __future__ import annotations

import pytest
import torch
from conftest import tiny_bloom

from lens.errors import BadSetting
from train.lora import Counts, attach_lora

ORIGINAL = {"r": 8, "lora_alpha": 8, "lora_dropout": 0.05, "target_modules": ["query_key_value"]}
ALL_LINEAR = ["query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"]
IDS = torch.arange(4, 44).reshape(2, 20)


def logits(model):
    with torch.inference_mode():
        return model(input_ids=IDS).logits


def test_counts_at_the_shape_of_bloom_1b1():
    from transformers import BloomConfig, BloomForCausalLM

    with torch.device("meta"):  # the shapes are what counts; no memory is spent on values
        model = BloomForCausalLM(BloomConfig(vocab_size=250880, hidden_size=1536, n_layer=24, n_head=16))
        counts = Counts(*attach_lora(model, **ORIGINAL).get_nb_trainable_parameters())
    assert str(counts) == "trainable params: 1,179,648 || all params: 1,066,493,952 || 0.11%"


@pytest.mark.parametrize("targets", [["query_key_value"], ALL_LINEAR])
def test_an_untrained_adapter_changes_no_logit(targets):
    base = tiny_bloom()
    before = logits(base)
    adapted = attach_lora(base, **{**ORIGINAL, "target_modules": targets}).eval()
    assert torch.equal(logits(adapted), before)


def test_a_changed_adapter_changes_logits_and_switched_off_does_not():
    base = tiny_bloom()
    before = logits(base)
    adapted = attach_lora(base, **ORIGINAL).eval()
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight)
    assert not torch.allclose(logits(adapted), before, atol=1e-2)
    with adapted.disable_adapter():
        assert torch.equal(logits(adapted), before)


def test_an_unknown_layer_is_named_with_what_is_allowed():
    with pytest.raises(BadSetting, match="'q_proj'; allowed: query_key_value"):
        attach_lora(tiny_bloom(), **{**ORIGINAL, "target_modules": ["q_proj"]})
