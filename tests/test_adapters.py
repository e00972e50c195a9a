"""Adapter directories: what is refused, and with which words; the receipt of one that is not."""

from __future__ import annotations

import json

import pytest
import torch
from conftest import ADAPTER, BASE

from compare.engine.engine import Engine
from lens.adapter_dir import read_adapter
from lens.errors import BadAdapter


def spoil_config(path, **changes):
    config = json.loads((path / "adapter_config.json").read_text())
    (path / "adapter_config.json").write_text(json.dumps({**config, **changes}))


@pytest.mark.parametrize("changes", [
    {"use_dora": True}, {"bias": "all"}, {"init_lora_weights": "pissa"}, {"trainable_token_indices": [1]},
    {"r": 100000}, {"r": "8"}, {"target_modules": "(a+)+$"}, {"target_modules": ["lm_head"]},
    {"modules_to_save": ["word_embeddings"]}, {"peft_type": "IA3"},
], ids=str)
def test_what_rows_cannot_express_is_refused(copied, changes):
    spoil_config(copied, **changes)
    with pytest.raises(BadAdapter, match=str(copied)):
        read_adapter(copied)


def spoil_weights(path, change):
    from safetensors.torch import load_file, save_file

    weights = load_file(path / "adapter_model.safetensors")
    change(weights)
    save_file(weights, path / "adapter_model.safetensors")


def test_a_crafted_file_cannot_overwrite_the_base(copied):
    """PEFT loads such a key into the base model itself (strict=False)."""
    spoil_weights(copied, lambda w: w.update({"base_model.model.transformer.ln_f.weight": torch.zeros(256)}))
    with pytest.raises(BadAdapter, match="ln_f"):
        read_adapter(copied)


def test_nan_weights_are_refused(copied):
    spoil_weights(copied, lambda w: next(iter(w.values())).fill_(float("nan")))
    with pytest.raises(BadAdapter, match="NaN"):
        read_adapter(copied)


def test_a_pickle_is_not_read(copied):
    (copied / "adapter_model.safetensors").rename(copied / "adapter_model.bin")
    with pytest.raises(BadAdapter, match="adapter_model.safetensors is missing"):
        read_adapter(copied)


def test_an_adapter_of_another_size_is_refused(tiny_base):
    with pytest.raises(BadAdapter, match="was trained on another base"):
        Engine(str(tiny_base), str(ADAPTER), device="cpu")


def test_an_adapter_that_does_not_say_its_base_is_refused_by_its_shape(tiny_base, copied):
    """`copied` has no training.json."""
    with pytest.raises(BadAdapter, match="does not fit this base"):
        Engine(str(tiny_base), str(copied), device="cpu")


def test_the_receipt_says_what_was_proved(engine):
    receipt = engine.receipts["lens"].as_dict()
    assert receipt["base_exact"] and receipt["changes_anything"] and receipt["max_logit_change"] > 0.1
    assert receipt["keys_matched"] == 48 and receipt["keys_refused"] == 0 and receipt["problem"] is None


def test_an_adapter_that_changes_nothing_is_refused(copied):
    spoil_weights(copied, lambda w: [w[k].zero_() for k in w if "lora_B" in k])
    with pytest.raises(BadAdapter, match="every B matrix is zero"):
        Engine(str(BASE), str(copied), device="cpu")


def test_two_adapters_of_one_name_are_refused():
    with pytest.raises(BadAdapter, match="same name"):
        Engine(str(BASE), [str(ADAPTER), str(ADAPTER)], device="cpu")
