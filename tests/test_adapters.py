"""Adapter directories: what is refused, and with which words; the receipt of one that is not."""

from __future__ import annotations

import json

import pytest
import torch
from conftest import ADAPTER, BASE

from lens.adapter.directory import read_adapter
from lens.errors import BadAdapter
from tests.hostile_adapters import place
from tests.short import Engine


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


def test_one_adapter_given_twice_is_loaded_once_and_shown_in_two_columns():
    engine = Engine(str(BASE), [str(ADAPTER), f"{ADAPTER}/"], device="cpu")
    assert list(engine.adapters) == ["lens"] and len(engine.model.peft_config) == 1 and not engine.notes
    assert [(v.name, v.adapter) for v in engine.variants()] == [("base", None), ("lens", "lens"), ("lens (2)", "lens")]


def test_two_adapters_of_one_folder_name_have_names_of_their_own_which_is_told_once(tmp_path):
    paths = [place(tmp_path / run / "lens") for run in ("one", "two", "three/two")]
    engine = Engine(str(BASE), list(map(str, paths)), device="cpu")
    assert list(engine.adapters) == ["lens", "two/lens", "two/lens (2)"] == list(engine.receipts)
    assert [n.code for n in engine.notes] == ["adapter-renamed"] * 2
    assert "shown as two/lens" in str(engine.notes[0]) and "显示为 two/lens" in engine.notes[0].said("zh")


def test_a_hub_adapter_is_called_by_its_repository(tmp_path):
    """A snapshot in the hub's cache is a folder that a commit names."""
    snapshot = place(tmp_path / "models--someone--lens-1b1" / "snapshots" / "0123456789abcdef")
    assert read_adapter(snapshot).name == "someone/lens-1b1"


def test_of_a_hub_adapter_everything_that_is_judged_is_fetched(tmp_path, monkeypatch):
    import huggingface_hub

    asked = []
    monkeypatch.setattr(huggingface_hub, "snapshot_download",
                        lambda repo, allow_patterns: asked.append(allow_patterns) or str(place(tmp_path / "snapshot")))
    assert read_adapter("someone/lens-1b1").r == 16
    assert {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "training.json"} < set(asked[0])
