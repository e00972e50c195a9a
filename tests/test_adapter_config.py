"""adapter_config.json as PEFT reads it."""

from __future__ import annotations

import json

import pytest
from conftest import tiny_bloom

from lens.adapter.config import LoraSettings, Patterns, read_config
from tests.hostile_adapters import CONFIG, place


def written(path, **changes):
    config = json.loads((place(path) / CONFIG).read_text(encoding="utf-8"))
    (path / CONFIG).write_text(json.dumps({**config, **changes}), encoding="utf-8")
    return path


def test_trap_an_empty_list_of_layers_is_all_of_them_to_peft(tmp_path):
    assert read_config(written(tmp_path / "all", layers_to_transform=[])).layers_to_transform is None


@pytest.mark.parametrize("changes", [
    {"trainable_token_indices": []}, {"trainable_token_indices": {"word_embeddings": []}}, {"fan_in_fan_out": True},
    {"eva_config": {}}, {"loftq_config": None}, {"layers_pattern": ""}, {"layers_pattern": ["h"]},
    {"exclude_modules": []}, {"ensure_weight_tying": True}, {"runtime_config": {"ephemeral_gpu_offload": False}},
    {"init_lora_weights": "orthogonal"}, {"modules_to_save": []}], ids=str)
def test_what_says_nothing_to_peft_is_accepted(tmp_path, changes):
    assert read_config(written(tmp_path / "nothing", **changes)) == read_config(place(tmp_path / "plain"))


TARGETS = [["dense"], ["mlp.dense_h_to_4h", "h.1.self_attention.dense"], r".*\.h\.[01]\..*(dense|query_key_value)",
           r"transformer\.h\.1\.mlp\.dense.*", "all-linear"]


@pytest.mark.parametrize("layers", [None, [1], []], ids=str)
@pytest.mark.parametrize("targets", TARGETS, ids=str)
def test_layers_ranks_and_alphas_are_those_that_peft_gives(targets, layers):
    """Module by module, against a model that PEFT makes of the very same settings."""
    from peft import LoraConfig, get_peft_model
    from peft.tuners.lora import LoraLayer

    if isinstance(targets, str):
        layers = None
    ranks = {r"h\.0\..*": 2, "dense": 5, "^transformer.h.1.mlp.dense_h_to_4h": 7}
    alphas = {"self_attention.dense": 3.5, r".*4h": 11, "dense_4h_to_h": 1}
    given = {"r": 4, "lora_alpha": 6, "rank_pattern": ranks, "alpha_pattern": alphas, "target_modules": targets,
             "layers_to_transform": layers}
    settings = LoraSettings(**{**given, "use_rslora": False, "layers_to_transform": layers or None,
                               "target_modules": targets if isinstance(targets, str) else tuple(targets)})
    model, patterns = get_peft_model(tiny_bloom(), LoraConfig(task_type="CAUSAL_LM", **given)), Patterns("x")
    expected = {name: (m.r["default"], m.lora_alpha["default"]) for name, m in model.get_base_model().named_modules()
                if isinstance(m, LoraLayer)}
    names = [name for name, _ in tiny_bloom().named_modules() if name.split(".")[-1] in
             ("query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h")]
    assert expected == {name: (settings.rank_of(name, patterns), settings.alphas_of(name, patterns)[0])
                        for name in names if settings.targets(name, patterns)}
