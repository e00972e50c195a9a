"""An adapter on in some layers or modules alone: as PEFT has it with the other modules' lora_B zeroed."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from test_batch import EOS, MODEL, answers, ask, run

from compare.__main__ import main
from compare.engine.batch import Batch
from compare.engine.interface import BASE, Variant, unique_names
from compare.engine.question import read_layers, read_modules, shown_layers
from compare.models.bloom import Bloom
from compare.models.lora_rows import stack
from lens.adapter.directory import peft_key
from lens.errors import BadQuestion
from tests.tiny import tiny_adapter

PARTS = [Variant.of("two"), Variant.of("two", 0.5, layers=(1,)), Variant.of("two", modules=("mlp",)),
         Variant.of("two", -1.0, (0,), ("attention",)), Variant.of("two", modules=("dense",)),
         Variant.of("one", layers=(0,)), Variant.of("one"), BASE]
PROMPT = [4, 5, 6, 900, 17, 33]


@pytest.fixture
def batch():
    return Batch(Bloom(MODEL.get_base_model()), lambda names: stack(MODEL, names), [EOS])


@pytest.fixture(scope="module")
def references():
    """For each of PARTS PEFT's own model, lora_B zero outside of the part."""
    found = []
    for variant in PARTS:
        model = copy.deepcopy(MODEL)
        if variant.adapter:
            key = peft_key(variant.adapter)
            model.set_adapter(key, inference_mode=True)
            for name, layer in model.get_base_model().named_modules():
                if key in getattr(layer, "lora_B", {}):
                    number, kind = int(name.split(".")[2]), name.split(".")[-1]
                    group = "attention" if "self_attention" in name else "mlp"
                    inside = (variant.layers is None or number in variant.layers) and (
                        variant.modules is None or {kind, group} & set(variant.modules))
                    with torch.no_grad():
                        layer.lora_B[key].weight *= variant.strength if inside else 0.0
        found.append(model)
    return found


@torch.inference_mode()
def peft_logits(model, variant: Variant, ids: list[int]) -> torch.Tensor:
    """(length, vocabulary)"""
    if variant.adapter:
        return model(input_ids=torch.tensor([ids])).logits[0]
    with model.disable_adapter():
        return model(input_ids=torch.tensor([ids])).logits[0]


def test_every_part_has_the_logits_of_zeroed_modules(batch, references):
    with torch.inference_mode():
        gate = batch.stack_of(("one", "two")).gate(PARTS)
        found = batch.decoder.logits(batch.decoder.read(torch.tensor([PROMPT]).repeat(len(PARTS), 1), gate, chunk=4))
    right = [peft_logits(model, variant, PROMPT) for model, variant in zip(references, PARTS, strict=True)]
    for one, other in zip(found, right, strict=True):
        assert torch.allclose(one, other, atol=2e-4)
    assert all((found[0] - other).abs().max() > 0.01 for other in found[1:])  # each part is another thing


def test_answers_are_the_same_token_for_token(batch, references):
    """In the running batch, a part beside whole adapters and beside a question that comes and goes."""
    tokens = 12
    question, passing = ask(PROMPT, PARTS, tokens), ask([9, 8, 7], [BASE, PARTS[2]], 4)
    run(batch, {0: [question], 2: [passing]})
    for model, variant, answer in zip(references, PARTS, answers(question), strict=True):
        ids = list(PROMPT)
        for token in answer:
            logits = peft_logits(model, variant, ids)[-1]
            assert logits[token] >= logits.max() - 1e-4, variant.name  # the same but for a tie of rounding
            ids.append(token)
        logits = peft_logits(model, variant, ids)[-1]
        assert len(answer) == tokens or logits[EOS] >= logits.max() - 1e-4, variant.name


@torch.inference_mode()
def test_base_is_bit_for_bit_the_same_beside_a_part(batch):
    ids = torch.tensor([PROMPT]).repeat(2, 1)
    gate = batch.stack_of(("two",)).gate([BASE, PARTS[1]])
    assert torch.equal(batch.decoder.read(ids, gate)[0], batch.decoder.read(ids)[0])
    assert torch.equal(gate.row(1).off_at[1, "dense"], gate.off_at[1, "dense"][1:])


def test_columns_without_a_part_have_no_mask_of_their_own(batch):
    held = batch.stack_of(("one", "two"))
    assert held.gate([BASE, PARTS[0], PARTS[6]]).off_at is None
    assert len({id(mask) for mask in held.gate(PARTS).off_at.values()}) <= len(held.weights)


@pytest.mark.parametrize("text, layers", [("3-5", (3, 4, 5)), ("0", (0,)), ("4, 0-1", (0, 1, 4)), ("7,7", (7,))])
def test_layers_are_read_and_said(text, layers):
    assert read_layers(text) == layers
    assert read_layers(shown_layers(layers)) == layers


@pytest.mark.parametrize("text", ["", "-1", "5-3", "3-", "a", "1.5", "0-99999", "1000", "²", "1--2"])
def test_what_are_no_layers_is_said(text):
    with pytest.raises(BadQuestion, match="numbers from 0"):
        read_layers(text)


def test_modules_are_read_and_named():
    assert read_modules("mlp, dense") == ("mlp", "dense")
    assert read_modules("q_proj,attn.c_proj") == ("q_proj", "attn.c_proj")  # whether there are such, the base decides
    with pytest.raises(BadQuestion, match="'c proj'; allowed: attention, mlp"):
        read_modules("c proj")
    assert [Variant.of("a", *given).name for given in (
        (1.0,), (0.5,), (1.0, (3, 4, 5)), (2.0, (0, 2), ("mlp",)), (1.0, None, ("attention", "dense_4h_to_h")))] == [
        "a", "a@0.5", "a [layers 3-5]", "a@2 [layers 0,2, mlp]", "a [attention,dense_4h_to_h]"]
    assert [v.name for v in unique_names([PARTS[1], PARTS[1]])] == ["two@0.5 [layers 1]", "two@0.5 [layers 1] (2)"]


def test_the_command_line(tiny_base, tmp_path, capsys):
    given = ["你好", "--base", str(tiny_base), "--adapter", tiny_adapter(tmp_path / "one"), "--json",
             "--max-new-tokens", "8", "--device", "cpu"]
    assert main([*given, "--layers", "1", "--modules", "attention", "--strength", "1", "2"]) == 0
    base, *parts = json.loads(capsys.readouterr().out)["columns"]
    assert "layers" not in base and "modules" not in base
    assert [(c["variant"], c["layers"], c["modules"]) for c in parts] == [
        ("one [layers 1, attention]", "1", "attention"), ("one@2 [layers 1, attention]", "1", "attention")]
    assert main([*given, "--modules", "mlp"]) == 2
    assert "adapter one changes nothing in mlp; it changes layers 0-1, modules query_key_value, dense" in (
        capsys.readouterr().err)
    assert main([*given, "--layers", "0-2"]) == 2
    assert "layers is 0-2; allowed: 0 to 1" in capsys.readouterr().err
    assert main([*given, "--modules", "mlp,q_proj"]) == 2
    assert "modules is 'q_proj'; allowed: attention, mlp, query_key_value, dense" in capsys.readouterr().err
    assert main([*given, "--layers", "x"]) == 2
