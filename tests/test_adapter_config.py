"""adapter_config.json as PEFT reads it, where ours once read it otherwise."""

from __future__ import annotations

import json

from lens.adapter_config import read_config
from tests.hostile_adapters import CONFIG, place


def test_trap_an_empty_list_of_layers_is_all_of_them_to_peft(tmp_path):
    path = place(tmp_path / "all")
    config = json.loads((path / CONFIG).read_text(encoding="utf-8"))
    (path / CONFIG).write_text(json.dumps({**config, "layers_to_transform": []}), encoding="utf-8")
    assert read_config(path).for_peft().layers_to_transform is None
