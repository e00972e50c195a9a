"""Traps of PEFT, transformers, Gradio and torch that touch us, each met by what we do: a test a trap, named after it.

Traps that are avoided by not calling something are in test_traps_in_code.py; SECURITY.md lists all.
"""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import peft.utils.save_and_load
import pytest
import torch
from conftest import ADAPTER, BASE, MOTTO, tiny_bloom

from compare.engine.interface import Sampling, Variant
from compare.models.lora_rows import stack
from compare.page.page import build
from lens.adapter.directory import fit_of, read_adapter
from lens.adapter.for_peft import attach
from lens.adapter.write import write_adapter
from lens.base.files import find_base
from lens.base.loading import pick_compute
from lens.errors import BadAdapter, BadSetting
from tests.hostile_adapters import place
from tests.short import Engine
from train.data.encoded import Encoded, EncodedRows
from train.lora import attach_lora, target_modules
from train.pretraining.optimizers import orthogonalized
from train.settings import TrainSettings
from train.setup import chosen_compute

# ---- PEFT


def test_trap_leaked_hooks_and_gradients_turned_on_again():
    """PEFT: hooks stay after an exception, and leaving `disable_adapter()` sets `requires_grad` again."""
    engine = Engine(str(BASE), str(ADAPTER), device="cpu")  # a fresh one: other tests toggle the shared one's PEFT
    next(engine.compare(MOTTO, sampling=Sampling(2)))
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in engine.model.modules())
    assert not any(p.requires_grad for p in engine.model.parameters())


NAMES = ["a.b", "__base__", "lora_A", "lora_B", "keys", "default", "base_layer", "适配器", "a b\nc", "1", "model", "h",
         "mlp", "base", "v1.0 final", "transformer", "weight"]


@pytest.mark.parametrize("name", NAMES)
def test_trap_names_that_peft_or_torch_take_for_something_else(tmp_path, name):
    """PEFT: a dot is a KeyError, `__base__` the base itself; torch: a ModuleDict has no key called `keys`."""
    engine = Engine(str(BASE), str(place(tmp_path / name)), device="cpu")
    (own,) = engine.receipts.values()
    assert own.adapter == name.replace("\n", "\ufffd") and len({v.name for v in engine.variants()}) == 2
    assert own.keys_matched == 48 and own.base_exact and own.changes_anything


def test_trap_lora_on_the_embedding_or_lm_head_merges_wrong(copied):
    """PEFT: logits of a merged LoRA on either are off by 4 to 43; both are refused wherever an adapter comes in."""
    config = json.loads((copied / "adapter_config.json").read_text())
    for name in ("word_embeddings", "lm_head"):
        with pytest.raises(BadSetting, match=f"--target-modules has '{name}'"):
            target_modules([name], fit_of(find_base(str(BASE))))
        (copied / "adapter_config.json").write_text(json.dumps({**config, "target_modules": [name]}))
        with pytest.raises(BadAdapter, match="target_modules"):
            read_adapter(copied)


def test_trap_save_embedding_layers_asks_the_hub_for_the_bases_config(tmp_path, tokenizer, monkeypatch):
    """PEFT: by its default, "auto", saving looks up the base on the hub, and saves the embedding as well where the
    base's own config has another vocabulary; `save_embedding_layers=False` does neither."""
    monkeypatch.setattr(peft.utils.save_and_load, "check_file_exists_on_hf_hub",
                        lambda *_: pytest.fail("asked the hub for the base"))
    model = attach_lora(tiny_bloom(), r=2, lora_alpha=2, lora_dropout=0.0, target_modules=["query_key_value"])
    about = json.loads((ADAPTER / "training.json").read_text(encoding="utf-8"))
    about["base"]["name"] = "someone/a-bloom"
    write_adapter(model, tokenizer, about, "a card", tmp_path / "adapter")
    from safetensors import safe_open

    with safe_open(tmp_path / "adapter" / "adapter_model.safetensors", "pt") as file:
        assert len(file.keys()) == 4 and all(".lora_" in key for key in file.keys())


def test_trap_an_adapters_update_is_rounded_before_it_is_added_in_bfloat16():
    """PEFT: in a mixed batch over a bf16 base a row differs by up to 0.06; our gate holds A and B in float32."""
    adapted = attach(tiny_bloom(hidden_size=256, n_layer=6, n_head=8).to(torch.bfloat16), [read_adapter(ADAPTER)])
    weights = stack(adapted, ["lens"]).weights
    assert weights and {part.dtype for pair in weights.values() for part in pair} == {torch.float32}


def test_trap_the_scale_of_a_layer_is_shared_by_all_who_use_it():
    """PEFT: `set_scale` and `rescale_adapter_scale` change what every other visitor's row is computed with."""
    adapted = attach(tiny_bloom(hidden_size=256, n_layer=6, n_head=8), [read_adapter(ADAPTER)])
    layer = adapted.get_base_model().transformer.h[0].self_attention.query_key_value
    before, held = dict(layer.scaling), stack(adapted, ["lens"])
    full, half = (held.gate([Variant("lens", "lens", s)]).scale for s in (1.0, 0.5))
    assert torch.equal(full * 0.5, half) and layer.scaling == before


# ---- transformers and torch


def test_trap_a_checkpoint_in_half_precision_loads_as_such(tiny_base, tmp_path):
    """transformers: the default dtype is the file's own; bfloat16 on a processor without it is 150 times slower."""
    from transformers import AutoModelForCausalLM

    AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.float16).save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(tiny_base / name, tmp_path)
    engine = Engine(str(tmp_path), device="cpu")
    assert {p.dtype for p in engine.model.parameters()} == {torch.float32}
    assert engine.model.get_input_embeddings().num_embeddings == 8064  # never resized: the spare rows stay


def test_trap_a_dataset_that_raises_no_index_error_hangs_group_by_length():
    rows = EncodedRows()
    rows.append(Encoded(limit=3, ids=[5, 6, 2], labels=[-100, 6, 2], length=3))
    assert len(list(rows)) == 1
    with pytest.raises(IndexError):
        rows[1]


def test_trap_bfloat16_is_ruinous_on_processors_without_it():
    """AVX2: 0.9 instead of 156 GFLOP/s. No default of ours is bf16 on a CPU, and fp16 that a recipe asks for is not."""
    assert pick_compute("cpu").dtype is torch.float32
    assert {chosen_compute(TrainSettings(device="cpu", dtype=dtype)).dtype for dtype in ("auto", "float16")} == {
        torch.float32}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_trap_torchs_muon_iterates_in_bfloat16(dtype):
    """torch.optim.Muon: a step is six times as long on AVX2. Ours computes in float32 whatever it is given."""
    matrix = torch.randn(24, 40, generator=torch.Generator().manual_seed(0)).to(dtype)
    exact = orthogonalized(SimpleNamespace(float=matrix.double))  # the same steps in float64
    found = orthogonalized(matrix)
    assert found.dtype == torch.float32 and exact.dtype == torch.float64
    assert torch.allclose(found.double(), exact, atol=1e-4)


# ---- Gradio


def test_trap_a_concurrency_limit_of_one_serialises_all_visitors(engine):
    """Gradio's default is one at a time for each function: right for a lock, wrong for a running batch."""
    asking = {"answers", "changed", "blind", "timeline"}  # what waits for answers
    fns = [fn for fn in build(engine).fns.values() if fn.concurrency_id in asking]
    assert {fn.concurrency_id for fn in fns} == asking
    assert not [fn.name for fn in fns if fn.concurrency_limit is not None and fn.concurrency_limit < 2]
