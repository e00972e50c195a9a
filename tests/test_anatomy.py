"""Norms through small products equal the norms of the update itself."""

from __future__ import annotations

import json
import re

import pytest
import torch
from conftest import tiny_bloom

from compare.analysis.adapter_norms import anatomy
from compare.page.changed.adapter_map import draw_map
from lens.adapter.directory import peft_key
from lens.base.linear_layers import describe, linear_layers
from lens.errors import BadAdapter
from tests.decoders import tiny_decoder

ONE = peft_key("one")
MODULES = ["query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"]


def adapted(**changes):
    """The tiny BLOOM with an adapter that is not zero."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=4, lora_alpha=6, target_modules=MODULES, init_lora_weights=False, **changes)
    model = get_peft_model(tiny_bloom(), config, adapter_name=ONE)
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if ".lora_" in name:
            parameter.data.normal_()
    return model


def dense(model, site):
    """The update of a site as a matrix, and the base's weights."""
    block = model.get_base_model().transformer.h[site.layer]
    layer = getattr(block.self_attention if site.module in ("query_key_value", "dense") else block.mlp, site.module)
    return layer.get_delta_weight(ONE).detach().double(), layer.get_base_layer().weight.detach().double()


@pytest.mark.parametrize("changes", [{}, {"use_rslora": True}, {"rank_pattern": {"dense_h_to_4h": 7}}], ids=str)
def test_norms_equal_the_dense_product(changes):
    model = adapted(**changes)
    found = anatomy(model, "one")
    assert [(s.layer, s.module) for s in found.sites] == [(i, m) for i in (0, 1) for m in MODULES]
    for site in found.sites:
        update, weight = dense(model, site)
        assert site.whole.update == pytest.approx(float(update.norm()), rel=1e-5)
        assert site.whole.ratio == pytest.approx(float(update.norm() / weight.norm()), rel=1e-5)


def test_heads_are_blooms_heads():
    """Against BLOOM's own split of the fused output into query, key and value."""
    model = adapted()
    site = anatomy(model, "one").sites[0]
    attention = model.get_base_model().transformer.h[0].self_attention
    for matrix, number in zip(dense(model, site), ("update", "weight"), strict=True):
        # As a batch of one with the inputs as positions: (1, heads, in, head size) each.
        for part, block in zip("qkv", attention._reshape(matrix.T[None].contiguous()), strict=True):
            expected = block[0].flatten(1).norm(dim=1).tolist()
            assert [getattr(head[part], number) for head in site.heads] == pytest.approx(expected, rel=1e-5)
    assert len(site.heads) == 4 and len({head["q"].update for head in site.heads}) == 4


def test_gpt2s_two_layers_of_one_name_have_a_cell_each():
    """Its attention and its mlp both have a c_proj; its weights lie the other way round."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules="all-linear", init_lora_weights=False,
                        fan_in_fan_out=True)
    model = get_peft_model(tiny_decoder("gpt2"), config, adapter_name=ONE)
    found, names = anatomy(model, "one"), ["c_attn", "attn.c_proj", "c_fc", "mlp.c_proj"]
    assert [(s.layer, s.module) for s in found.sites] == [(i, m) for i in (0, 1) for m in names]
    for site in found.sites:
        layer = linear_layers(model)[site.layer, site.module]
        update, weight = layer.get_delta_weight(ONE).detach(), layer.get_base_layer().weight.detach()
        assert site.whole.ratio == pytest.approx(float(update.norm() / weight.norm()), rel=1e-5)
    drawn = draw_map(found, describe(model).sizes)
    assert drawn.count("<td data-kl=") == len(found.sites) and ">–</td>" not in drawn
    assert re.findall(r"<code>(\S+)</code></th>", drawn) == names


def test_squares_add_up():
    found = anatomy(adapted(), "one")
    for site in found.sites:
        if site.module == "query_key_value":
            heads = sum(size.update ** 2 for head in site.heads for size in head.values())
            assert heads == pytest.approx(site.whole.update ** 2)
            assert sum(size.update ** 2 for size in site.parts.values()) == pytest.approx(site.whole.update ** 2)
        else:
            assert site.heads == () and site.parts == {}
    assert sum(site.whole.update ** 2 for site in found.sites) == pytest.approx(found.whole.update ** 2)


def test_strengths_in_the_scaling_change_nothing():
    from peft.tuners.lora import LoraLayer

    model = adapted(use_rslora=True)
    before = anatomy(model, "one")
    for layer in model.modules():
        if isinstance(layer, LoraLayer):
            layer.scaling[ONE] = torch.tensor([0.0, 3.0]).view(-1, 1, 1)
    assert anatomy(model, "one") == before


def test_an_untrained_adapter_weighs_nothing():
    model = adapted()
    for name, parameter in model.named_parameters():
        if ".lora_B." in name:
            parameter.data.zero_()
    assert all(site.whole.ratio == 0 for site in anatomy(model, "one").sites)


def test_the_shipped_adapter(engine):
    found = json.loads(json.dumps(anatomy(engine.model, "lens").as_dict(), allow_nan=False))
    assert len(found["sites"]) == 24 and len(found["sites"][0]["heads"]) == 8
    assert all(0.01 < site["ratio"] < 1 for site in found["sites"])


def test_an_unknown_adapter_is_named():
    with pytest.raises(BadAdapter, match="'two' is not on this model"):
        anatomy(adapted(), "two")
    with pytest.raises(BadAdapter, match="'one' is not on this model"):
        anatomy(tiny_bloom(), "one")
