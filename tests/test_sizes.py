"""Counts from the shape alone, held to the real modules; memory formulas; no torch."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from compare.page.shared import model_sizes as sizes
from compare.page.shared.model_sizes import EMBEDDED, SIZES, Shape, human, memory, share
from lens.adapter.fit import LINEAR_LAYERS

BY_NAME = {s.name: s for s in SIZES}


def meta_bloom(shape: Shape):
    from transformers import BloomConfig, BloomForCausalLM

    with torch.device("meta"):
        return BloomForCausalLM(BloomConfig(vocab_size=shape.vocab_size, hidden_size=shape.hidden_size,
                                            n_layer=shape.n_layer, n_head=8))


def test_bloom_1b1_has_the_original_experiments_counts():
    shape = BY_NAME["bloom-1b1"]
    assert shape.lora() == 1_179_648
    assert shape.parameters + shape.lora() == 1_066_493_952
    assert f"{share(shape.lora(), shape.parameters):.2%}" == "0.11%"


@pytest.mark.parametrize("name,parameters", [
    ("embedded", 6_803_968), ("bloom-560m", 559_214_592), ("bloom-1b7", 1_722_408_960), ("bloom-3b", 3_002_557_440),
    ("bloom-7b1", 7_069_016_064), ("bloom-176b", 176_247_271_424)])
def test_parameters_of_the_published_sizes(name, parameters):
    assert BY_NAME[name].parameters == parameters


@pytest.mark.parametrize("shape", [EMBEDDED, Shape("odd", 64, 3, 1000)], ids=lambda s: s.name)
def test_parameters_equal_the_real_model(shape):
    assert shape.parameters == meta_bloom(shape).num_parameters()


@pytest.mark.parametrize("r,modules", [(1, ("dense",)), (8, ("query_key_value",)), (64, tuple(LINEAR_LAYERS))])
def test_lora_equals_what_peft_adds(r, modules):
    from peft import LoraConfig, get_peft_model

    shape = Shape("small", 64, 2, 1000)
    model = get_peft_model(meta_bloom(shape), LoraConfig(r=r, target_modules=list(modules)))
    trainable, everything = model.get_nb_trainable_parameters()
    assert shape.lora(r, modules) == trainable
    assert share(shape.lora(r, modules), shape.parameters) == trainable / everything


def test_memory_by_hand():
    ours = memory(base=1000, lora=10)
    assert (ours.train_all, ours.train_lora, ours.serve_one, ours.serve_two) == (16_000, 2_160, 2_020, 4_000)


@pytest.mark.parametrize("size,text", [(0, "0 B"), (999, "999 B"), (999.6, "1 kB"), (786_432, "786 kB"),
                                       (17_045_028_864, "17 GB"), (2.82e12, "2.82 TB")])
def test_human_sizes(size, text):
    assert human(size) == text


def test_a_loaded_model_of_another_size_heads_the_table():
    odd = Shape("odd", 64, 3, 1000)
    assert sizes.table_shapes(odd)[0] is odd and sizes.table_shapes(odd)[1:] == SIZES
    assert sizes.table_shapes(Shape("base", 256, 6, 8064)) == SIZES


@pytest.mark.slow  # in `make test`, read off the files: test_imports.py
def test_needs_no_torch():
    code = "import sys, compare.page.howto.lora_drawing; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
