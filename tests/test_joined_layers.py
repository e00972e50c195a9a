"""Layers that read the same states are one product: the same answers, the same weights in memory, once."""

from __future__ import annotations

import pytest
import torch

from compare.engine.interface import BASE, Variant
from compare.models.decoders import decoder_of
from compare.models.lora_rows import FEW, Stack
from compare.models.lora_rows import stack as stack_of
from compare.models.rotary import QKV, WIDE, Rotary
from lens.adapter.directory import peft_key
from tests.decoders import tiny_decoder

GATED = [BASE, Variant("one", "one", 1.0), Variant("some", "one", -0.5, layers=(1,), modules=("k_proj", "mlp"))]
WIDTHS = {"q_proj": 12, "k_proj": 4, "v_proj": 4}
COLUMNS = [BASE, Variant("one", "one", 1.0), Variant("two", "two", 0.5),
           Variant("some", "one", 1.0, layers=(0,), modules=("v_proj",))]


def stack(ranks: int, modules: tuple[str, ...]) -> Stack:
    """Two random adapters of so many ranks on these modules of layer 0, which reads 8 features, and one of layer 1."""
    torch.manual_seed(0)
    weights = {at: (torch.randn(8, 2 * ranks), torch.randn(2 * ranks, WIDTHS[at[1]]))
               for at in [*((0, name) for name in modules), (1, "q_proj")]}
    kinds = dict.fromkeys(WIDTHS, "attention")
    return Stack(weights, [("one", ranks), ("two", ranks)], {"one": 2.0, "two": 1.0}, kinds)


@pytest.mark.parametrize("modules", [tuple(WIDTHS), ("q_proj", "v_proj"), ("k_proj",), ()])
@pytest.mark.parametrize("ranks", [3, FEW])
@pytest.mark.parametrize("columns", [COLUMNS[:3], COLUMNS], ids=["whole", "in part"])
def test_updates_side_by_side_are_those_of_each(modules, ranks, columns):
    columns = columns if "v_proj" in modules else columns[:3]
    gate = stack(ranks, modules).gate(columns)
    x, out = torch.randn(len(columns), 5, 8), torch.randn(len(columns), 5, sum(WIDTHS.values()))
    parts = zip(out.split(list(WIDTHS.values()), -1), WIDTHS, strict=True)
    expected = torch.cat([gate.add(part, x, 0, name) for part, name in parts], -1)
    found = torch.cat(list(gate.add_to_each(out, x, 0, WIDTHS)), -1)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-5)
    assert torch.equal(found[0], out[0])  # base, bit for bit
    if modules:
        assert not torch.allclose(found[1], out[1])


def test_an_adapter_that_overflows_does_not_reach_the_base_row():
    held = stack(3, tuple(WIDTHS))
    held.weights[0, "k_proj"][0].fill_(torch.inf)
    out = torch.randn(2, 5, sum(WIDTHS.values()))
    found = torch.cat(list(held.gate(COLUMNS[:2]).add_to_each(out, torch.randn(2, 5, 8), 0, WIDTHS)), -1)
    assert torch.equal(found[0], out[0]) and not found[1].isfinite().all()


def joined(model) -> Rotary:
    """As on a GPU."""
    decoder = decoder_of(model)
    assert isinstance(decoder, Rotary) and not any(decoder.joined)  # on a processor it is slower
    decoder.join(*QKV)
    decoder.join(*WIDE)
    return decoder


@torch.inference_mode()
@pytest.mark.parametrize("layers", ["all-linear", ["q_proj", "v_proj"], ["up_proj", "down_proj"]], ids=str)
@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "gemma3_text"])
def test_a_joined_forward_is_the_same(family, layers):
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    config = LoraConfig(task_type="CAUSAL_LM", r=3, target_modules=layers, init_lora_weights=False)
    model = get_peft_model(tiny_decoder(family), config, adapter_name=peft_key("one"))
    apart, variants = decoder_of(model.base_model.model), GATED if layers == "all-linear" else GATED[:2]
    ids, gate = torch.randint(3, 300, (len(variants), 20)), stack_of(model, ["one"]).gate(variants)
    expected, found = apart.read(ids, gate), joined(model.base_model.model).read(ids, gate)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(found[1], apart.read(ids[1:2])[0], atol=1e-2)


@pytest.mark.parametrize("biased", [False, True])
def test_joined_weights_are_the_models_own(biased):
    model = tiny_decoder("llama", attention_bias=biased)
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    decoder = joined(model)
    for number, block in enumerate(model.model.layers):
        for names, of in ((QKV, block.self_attn), (WIDE, block.mlp)):
            whole = decoder.joined[number][names].weight
            assert {getattr(of, name).weight.untyped_storage().data_ptr() for name in names} == {
                whole.untyped_storage().data_ptr()}
            assert torch.equal(whole, torch.cat([getattr(of, name).weight for name in names]))
            assert (decoder.joined[number][names].bias is not None) == (biased and names == QKV)
    assert all(torch.equal(weight, before[name]) for name, weight in model.named_parameters())
