"""An adapter added to a running engine: it answers as one loaded at the start, and nothing else is disturbed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from compare.engine.interface import Sampling
from lens.errors import BadAdapter
from tests.short import Engine
from tests.training import six_steps


@pytest.fixture(scope="module")
def trained(tiny_base, tmp_path_factory) -> Path:
    return six_steps(tiny_base, tmp_path_factory.mktemp("trained"))[0]


@pytest.mark.parametrize("others", [0, 1])
def test_an_adapter_is_added_while_questions_run_and_answers_as_one_loaded_at_the_start(tiny_base, trained, tmp_path,
                                                                                        others):
    early = [str(shutil.copytree(trained / "checkpoint-3", tmp_path / "early"))] * others
    engine, at_start = Engine(str(tiny_base), early, device="cpu"), Engine(str(tiny_base), str(trained), device="cpu")
    sampling = Sampling(24)
    before = [c.token_ids for c in list(engine.compare("校训？", sampling=sampling))[-1]]
    running = engine.compare("校长是谁？", sampling=Sampling(200))
    next(running)
    name = engine.load_adapter(trained)
    assert name == engine.load_adapter(trained) == "adapter" and engine.receipts[name].base_exact
    running.close()
    assert [c.token_ids for c in list(engine.compare("校训？", sampling=sampling))[-1]] == before
    variants = at_start.variants()
    new, known = ([c.token_ids for c in list(e.compare("校训？", variants=variants, sampling=sampling))[-1]]
                  for e in (engine, at_start))
    assert new == known and new[0] != new[1]


def test_an_adapter_that_is_no_good_leaves_the_engine_as_it_was(tiny_base, trained, tmp_path, engine):
    mine = Engine(str(tiny_base), device="cpu")
    with pytest.raises(BadAdapter, match="trained on another base"):
        engine.load_adapter(trained)
    empty = shutil.copytree(trained, tmp_path / "empty")
    save_file({k: v * 0 if "lora_B" in k else v for k, v in load_file(empty / "adapter_model.safetensors").items()},
              empty / "adapter_model.safetensors", {"format": "pt"})
    for _ in range(2):
        with pytest.raises(BadAdapter, match="changes nothing"):
            mine.load_adapter(empty)
    assert not mine.adapters and mine.load_adapter(trained) == "adapter"
    with pytest.raises(BadAdapter, match="changes nothing"):
        mine.load_adapter(empty)
    assert list(mine.adapters) == ["adapter"] and mine.receipts["adapter"].base_exact
