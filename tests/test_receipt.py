"""The receipt tells a real adapter from one that does nothing, and a base row from one that is not the base."""

from __future__ import annotations

import hashlib
import json
import shutil

import pytest
import torch
from conftest import ADAPTER, BASE

from compare.engine.local import LocalEngine
from compare.models import loaded_model
from compare.models.receipt import PROBE, base_logits, probe_ids, receipt
from lens.errors import BadAdapter
from tests.short import Engine

CONTRACT = {"sha256", "rank", "modules", "keys_matched", "keys_refused", "nonzero_b", "max_logit_change",
            "base_exact", "changes_anything"}


@pytest.fixture(scope="module")
def before():
    """Logits of the base that no adapter ever touched."""
    from transformers import AutoModelForCausalLM

    return base_logits(AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32).eval())


def test_the_shipped_adapter(engine, before):
    found = receipt(engine, engine.files.files, before)
    assert found.problem is None and found.base_exact and found.changes_anything
    assert (found.rank, found.modules, found.keys_matched, found.keys_refused, found.nonzero_b) == (16, 24, 48, 0, 24)
    assert found.max_logit_change > 1 and found.base_difference < 1e-4
    assert found.sha256 == hashlib.sha256((ADAPTER / "adapter_model.safetensors").read_bytes()).hexdigest()
    assert set(json.loads(json.dumps(found.as_dict(), allow_nan=False))) >= CONTRACT
    assert not any(p.requires_grad for p in engine.model.parameters())


@pytest.fixture
def spoilt(tmp_path):
    """Writes a copy of the shipped adapter with its weights changed, and loads it."""
    from safetensors.torch import load_file, save_file

    def load(change):
        shutil.copytree(ADAPTER, tmp_path / "spoilt")
        file = tmp_path / "spoilt" / "adapter_model.safetensors"
        save_file({key: change(key, value) for key, value in load_file(file).items()}, file)
        return Engine(str(BASE), str(tmp_path / "spoilt"), device="cpu")

    return load


def test_a_zero_adapter_is_named(spoilt):
    with pytest.raises(BadAdapter, match="adapter spoilt: changes nothing: every B matrix is zero"):
        spoilt(lambda key, value: value * (".lora_A." in key))


def test_every_adapter_of_an_engine_has_its_own(tmp_path, before):
    from safetensors.torch import load_file, save_file

    shutil.copytree(ADAPTER, tmp_path / "halved")
    weights = load_file(ADAPTER / "adapter_model.safetensors")
    save_file({key: value / 2 for key, value in weights.items()}, tmp_path / "halved" / "adapter_model.safetensors")
    engine = Engine(str(BASE), [str(ADAPTER), str(tmp_path / "halved")], device="cpu")
    lens, half = (receipt(engine, files, before) for files in engine.loaded.adapters.values())
    assert lens.problem is None and half.problem is None
    assert lens.sha256 != half.sha256 and half.max_logit_change < lens.max_logit_change


def test_an_update_that_is_nothing_in_the_end_is_named(spoilt):
    with pytest.raises(BadAdapter, match="24 B matrices are not zero, but no logit moved"):
        spoilt(lambda key, value: value * (".lora_B." in key))


def test_weights_that_are_not_the_files_are_counted(spoilt, before):
    engine = spoilt(lambda key, value: value)
    first = next(p for name, p in engine.model.named_parameters() if ".lora_B." in name)
    with torch.no_grad():
        first[0, 0] += 1
    found = receipt(engine, engine.files.files, before)
    assert (found.keys_matched, found.keys_refused, found.modules, found.nonzero_b) == (47, 1, 23, 23)
    assert "1 of its 48 tensors are not on this base" in str(found.problem)


def test_a_base_that_was_changed_is_not_exact(spoilt, before):
    engine = spoilt(lambda key, value: value)
    assert receipt(engine, engine.files.files, before).base_exact
    with torch.no_grad():
        engine.model.get_base_model().transformer.ln_f.bias[0] += 0.1
    found = receipt(engine, engine.files.files, before)
    assert not found.base_exact and found.base_difference > 1e-3 and "not the untouched base" in str(found.problem)


def test_a_base_row_that_carries_the_adapter_is_not_exact(engine, before, monkeypatch):
    """The fault of tools that toggle: the base pane still has the adapter on."""
    right = type(engine).states
    adapted = engine.variants()[1]
    monkeypatch.setattr(type(engine), "states", lambda self, rows, variants: right(self, rows, [adapted] * len(rows)))
    found = receipt(engine, engine.files.files, before)
    assert not found.base_exact and found.base_difference > 1


def test_a_leak_between_rows_is_not_exact(engine, before, monkeypatch):
    """However small: beside an adapted row the base row must be the same to the last bit."""
    right = type(engine).states

    def leaky(self, rows, variants):
        states = right(self, rows, variants).clone()
        return states + 1e-7 * (variants[1].adapter is not None)

    monkeypatch.setattr(type(engine), "states", leaky)
    found = receipt(engine, engine.files.files, before)
    assert not found.base_exact and found.base_difference < 1e-3


def test_weights_that_would_overflow_are_refused(spoilt):
    with pytest.raises(BadAdapter, match="allowed: up to"):
        spoilt(lambda key, value: value * 1e30)


@pytest.mark.parametrize("vocab_size", [8064, 250880])
def test_the_probe_is_fixed_and_within_the_vocabulary(vocab_size):
    ids = probe_ids(vocab_size)
    assert ids == probe_ids(vocab_size) and len(set(ids)) == PROBE
    assert 0 <= min(ids) and max(ids) < vocab_size


def test_a_process_whose_first_forward_rounds_otherwise_has_the_untouched_base(monkeypatch):
    """Seen in 7 of 40 starts on a Xeon with AMX: every receipt said that the base row was not the base's."""
    calls = []

    def first_is_off(model):
        calls.append(model)
        return base_logits(model) + (1e-4 if len(calls) == 1 else 0.0)

    monkeypatch.setattr(loaded_model, "base_logits", first_is_off)
    with LocalEngine(str(BASE), str(ADAPTER), device="cpu") as started:
        assert calls and all(adapter.receipt.base_exact for adapter in started.adapters.values())
