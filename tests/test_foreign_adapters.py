"""Adapters that others wrote: what is expressible answers as PEFT's own forward, the rest gets one answer."""

from __future__ import annotations

import os
import re
import shlex
import stat

import pytest
import torch
from conftest import tiny_bloom
from foreign_adapters import ALL, IDS, REFUSED, TAKEN, Refused, mlx, pickled, plain

import app
import compare.__main__
import compare.evaluate
import train.merge
from compare.engine.interface import BASE, Variant
from compare.page.shared.templates import draw
from lens.adapter.directory import read_adapter
from lens.errors import BadAdapter
from lens.file_mode import follow_umask
from tests.short import Engine
from tools import convert_adapter
from train.checkpoint import load_adapter_weights
from train.lora import attach_lora


@pytest.fixture(scope="module")
def all_taken(tiny_base, tmp_path_factory):
    """One engine with every adapter that is taken, and PEFT's logits of each."""
    folder = tmp_path_factory.mktemp("taken")
    logits = {name: write(folder / name) for name, write in TAKEN.items()}
    return Engine(str(tiny_base), [str(folder / name) for name in TAKEN], device="cpu"), logits, folder


def row(engine, name: str) -> torch.Tensor:
    """The logits of an adapter's row beside a base row."""
    states = engine.states([IDS[0].tolist()] * 2, [BASE, Variant.of(name)])
    return engine.logits(states)[1]


@pytest.mark.parametrize("name", TAKEN)
def test_what_is_taken_answers_as_pefts_own_forward(all_taken, name):
    engine, logits, folder = all_taken
    shown = next(found for found in engine.adapters if found.partition("-checkpoint-")[0] == name)
    assert torch.allclose(row(engine, shown), logits[name][0], atol=2e-4, rtol=1e-4)
    receipt, files = engine.receipts[shown], engine.adapters[shown].files
    assert receipt.problem is None and receipt.base_exact and receipt.keys_refused == 0
    assert (receipt.modules, receipt.rank) == (len(files.sites), files.r)


def test_what_was_taken_otherwise_than_given_is_told_once(all_taken):
    engine, _, folder = all_taken
    said = [(note.code, str(note)) for note in engine.notes]
    assert [code for code, _ in said] == ["adapter-alphas-overlap", *["adapter-taken-below"] * 3,
                                          "adapter-passed-over", *["adapter-taken-checkpoint"] * 2]
    assert "mlp.dense_4h_to_h has alphas 2 and 40" in said[0][1]
    assert "adapter_model.safetensors cannot be read" in said[4][1] and "checkpoint-400, is taken" in said[5][1]


@pytest.mark.parametrize("name", ["both patterns, rslora", "layers", "compiled", "killed run", "DeepSpeed"])
def test_what_is_taken_merges_alike(all_taken, tiny_base, tmp_path, name):
    from transformers import AutoModelForCausalLM

    _, logits, folder = all_taken
    train.merge.merge(folder / name, str(tiny_base), tmp_path / "merged")
    with torch.inference_mode():
        found = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)(input_ids=IDS).logits
    assert torch.allclose(found, logits[name], atol=2e-4, rtol=1e-4)


def said_by(main, argv, capsys) -> str:
    assert main([str(part) for part in argv]) == 2
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error: ")]
    return line.removeprefix("error: ")


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_refused_alike_everywhere(tiny_base, tmp_path, capsys, name):
    refused: Refused = REFUSED[name]
    path = tmp_path / "adapter"
    refused.write(path)
    with pytest.raises(BadAdapter) as caught:
        read_adapter(path)
    assert caught.value.code == refused.code and caught.value.zh != str(caught.value)
    base = ["--base", tiny_base]
    said = {said_by(compare.__main__.main, ["q", *base, "--adapter", path], capsys),
            said_by(train.merge.main, [path, *base, "--output", tmp_path / "m"], capsys),
            said_by(compare.evaluate.main, [*base, "--adapter", path, "--output", tmp_path / "r"], capsys),
            said_by(app.main, [*base, "--adapter", path], capsys)}
    assert said == {str(caught.value)}


@pytest.mark.parametrize("write", [pickled, mlx])
def test_the_command_that_is_named_converts(tiny_base, tmp_path, capsys, write):
    logits = write(tmp_path / "它的 adapter")
    with pytest.raises(BadAdapter) as caught:
        read_adapter(tmp_path / "它的 adapter")
    command = re.search(r"python -m tools\.convert_adapter (.*)", str(caught.value))
    argv = [str(tmp_path / "new") if part == "NEW" else part for part in shlex.split(command[1])]
    assert convert_adapter.main(argv) == 0 and capsys.readouterr().out.strip() == str(tmp_path / "new")
    engine = Engine(str(tiny_base), str(tmp_path / "new"), device="cpu")
    assert torch.allclose(row(engine, "new"), logits[0], atol=2e-4, rtol=1e-4)


def test_a_pickle_that_runs_code_is_not_converted(tmp_path, capsys):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "owned"),)

    plain(tmp_path / "evil")
    torch.save({"x": Evil()}, tmp_path / "evil" / "adapter_model.bin")
    assert convert_adapter.main([str(tmp_path / "evil"), "--output", str(tmp_path / "new")]) == 2
    assert "adapter_model.bin cannot be converted" in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["evil"]


def test_an_adapter_with_patterns_is_added_to_a_running_engine(tiny_base, tmp_path):
    """Under a folder's name that an adapter of other weights has already."""
    first, second = tmp_path / "one" / "1", tmp_path / "two" / "1"
    plain(first)
    logits = TAKEN["both patterns, rslora"](second)
    engine = Engine(str(tiny_base), str(first), device="cpu")
    assert engine.load_adapter(second) == engine.load_adapter(second) == "two/1"
    assert [note.code for note in engine.notes] == ["adapter-renamed"]
    assert torch.allclose(row(engine, "two/1"), logits[0], atol=2e-4, rtol=1e-4)


def test_files_follow_the_umask(tmp_path):
    (tmp_path / "weights").touch(0o600)
    before = os.umask(0o027)
    try:
        follow_umask(tmp_path)
    finally:
        os.umask(before)
    assert [stat.S_IMODE(p.stat().st_mode) for p in tmp_path.iterdir()] == [0o640]


def test_notes_are_told_by_compare_and_shown_on_the_page(tiny_base, tmp_path, capsys):
    TAKEN["in lora"](tmp_path / "parent")
    assert compare.__main__.main(["校训？", "--base", str(tiny_base), "--adapter", str(tmp_path / "parent"),
                                  "--max-new-tokens", "1", "--json"]) == 0
    assert f"note: adapter {tmp_path}/parent: its adapter lies in lora/, which is taken" in capsys.readouterr().err
    engine = Engine(str(tiny_base), str(tmp_path / "parent"), device="cpu")
    drawn = str(draw("page", "loaded", facts={}, notes=engine.notes))
    assert "its adapter lies in lora/" in drawn and "适配器在子目录 lora/ 里" in drawn


def test_a_training_does_not_go_on_from_alphas_that_it_would_lose(tmp_path):
    plain(tmp_path / "alphas", alpha_pattern={"dense": 40})
    model = attach_lora(tiny_bloom(), r=4, lora_alpha=6, lora_dropout=0.0, target_modules=ALL)
    with pytest.raises(BadAdapter, match=r"self_attention.dense has scaling 10 where 1.5 belongs"):
        load_adapter_weights(model, tmp_path / "alphas")
