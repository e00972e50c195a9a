"""Which linear layers a decoder of any family has, by layer and by name."""

from __future__ import annotations

import pytest
import torch
from conftest import BASE, tiny_bloom

from lens.base.files import find_base
from lens.base.linear_layers import describe, find_blocks, kinds, layers_by_name, linear_layers, linear_layers_of
from tests.decoders import tiny_decoder

LLAMA = ("q_proj", "k_proj", "v_proj", "o_proj"), ("gate_proj", "up_proj", "down_proj")
EXPECTED = {
    "llama": LLAMA, "mistral": LLAMA, "qwen2": LLAMA, "qwen3": LLAMA, "gemma3_text": LLAMA,
    "gpt2": (("c_attn", "attn.c_proj"), ("c_fc", "mlp.c_proj")),
    "gpt_neox": (("query_key_value", "dense"), ("dense_h_to_4h", "dense_4h_to_h")),
    "opt": (("k_proj", "v_proj", "q_proj", "out_proj"), ("fc1", "fc2")),
    "falcon": (("query_key_value", "dense"), ("dense_h_to_4h", "dense_4h_to_h")),
    "phi": (("q_proj", "k_proj", "v_proj", "dense"), ("fc1", "fc2"))}


@pytest.mark.parametrize("family", EXPECTED)
def test_the_layers_of_each_family_are_found_and_are_those_that_peft_adapts(family):
    from peft import LoraConfig, get_peft_model
    from peft.tuners.lora import LoraLayer

    model = tiny_decoder(family)
    attention, mlp = EXPECTED[family]
    assert kinds(model) == {"attention": attention, "mlp": mlp} and len(find_blocks(model)[1]) == 2
    names = [layer.short for layer in describe(model).by_name.values()]
    assert {(layer.layer, layer.short) for layer in describe(model).by_name.values()} == set(linear_layers(model))
    before, about = set(layers_by_name(model)), describe(model)
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules="all-linear"))
    wrapped = {n for n, m in adapted.get_base_model().named_modules() if isinstance(m, LoraLayer)}
    assert set(layers_by_name(adapted)) == before == wrapped and len(names) == len(before)
    for name, layer in layers_by_name(adapted).items():
        at = about.by_name[name]
        assert layer.lora_A["default"].weight.shape == (2, at.in_features)
        assert layer.lora_B["default"].weight.shape == (at.out_features, 2)
    assert all(hasattr(layer, "base_layer") for layer in linear_layers(adapted).values())


def test_a_blooms_names_stay_in_their_order():
    assert describe(tiny_bloom()).names == ("query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h")


def test_a_bases_layers_are_known_from_its_config_alone_and_once():
    files = find_base(BASE, weights=False)
    found = linear_layers_of(files)
    assert found is linear_layers_of(files) and found.model_class == "BloomForCausalLM"
    assert found.by_name["transformer.h.0.mlp.dense_h_to_4h"].out_features == 4 * files.config["hidden_size"]


def test_what_has_no_blocks_is_said():
    class Odd(torch.nn.Module):
        config = tiny_bloom().config

        def get_decoder(self):
            return self

    with pytest.raises(ValueError, match="no list of 2 layers"):
        find_blocks(Odd())
