"""How adapters are related, found again where it was planted: a noisy double, another order of ranks, a stranger."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from foreign_adapters import plain
from safetensors.torch import load_file, save_file

from compare.adapters import main
from compare.analysis.adapter_pairs import AdapterPairs
from compare.analysis.low_rank import Update
from lens.adapter.directory import read_adapter, read_adapters
from lens.errors import BadAdapter, Note, sentences

WEIGHTS = "adapter_model.safetensors"


def changed(path: Path, like: Path, change) -> Path:
    """A copy of an adapter, `change(key, value)` its tensors."""
    path.mkdir()
    (path / "adapter_config.json").write_bytes((like / "adapter_config.json").read_bytes())
    save_file({key: change(key, value).contiguous() for key, value in load_file(like / WEIGHTS).items()},
              path / WEIGHTS)
    return path


@pytest.fixture(scope="module")
def planted(tmp_path_factory) -> dict[str, Path]:
    """A few adapters of the tiny BLOOM, most of them made from `one`."""
    home = tmp_path_factory.mktemp("planted")
    one = home / "one"
    plain(one)
    noise = torch.Generator().manual_seed(3)
    order = [2, 0, 3, 1]
    plain(home / "stranger", r=5)
    plain(home / "patterns", rank_pattern={"dense": 2, r"h\.1\..*query_key_value": 7}, use_rslora=True)
    plain(home / "attention", target_modules=["query_key_value"])
    plain(home / "mlp", target_modules=["dense_h_to_4h"])
    return {path.name: path for path in (
        one, home / "stranger", home / "patterns", home / "attention", home / "mlp",
        changed(home / "double", one, lambda key, v: v + 0.02 * torch.randn(v.shape, generator=noise)),
        changed(home / "shuffled", one, lambda key, v: v[order] if "lora_A" in key else v[:, order]),
        changed(home / "half", one, lambda key, v: v if "lora_A" in key else v / 2),
        changed(home / "against", one, lambda key, v: v if "lora_A" in key else -v),
        changed(home / "reader", one, lambda key, v: v if "lora_A" in key else torch.randn(v.shape, generator=noise)),
        changed(home / "zero", one, lambda key, v: v if "lora_A" in key else 0 * v))}


def pair(planted, one: str, other: str):
    return next(AdapterPairs(read_adapters([planted[one], planted[other]])).pairs())


@pytest.mark.parametrize("other, verdict", [
    ("double", "adapters-alike"), ("shuffled", "adapters-same"), ("half", "adapters-scaled"),
    ("against", "adapters-opposed"), ("reader", "adapters-shared-space"), ("zero", "adapters-changes-nothing")])
def test_what_was_planted_is_said(planted, other, verdict):
    found = pair(planted, "one", other)
    assert found.verdict.code == verdict
    assert set(found.verdict.as_dict()) == {"code", "message", "message_zh"}


def test_a_noisy_double_shares_everything_nearly(planted):
    found = pair(planted, "one", "double")
    assert 0.97 < found.whole.cosine < 0.998 and found.norm_ratio == pytest.approx(1, abs=0.01)
    assert 0.97 < found.whole.overlap_inputs < 1 and 0.97 < found.whole.overlap_outputs < 1


def test_another_order_of_ranks_is_the_same_update(planted):
    found = pair(planted, "one", "shuffled")
    for figures in (found.whole, *found.modules.values()):
        assert figures.cosine == pytest.approx(1) and figures.overlap_inputs == pytest.approx(1)
        assert figures.overlap_outputs == pytest.approx(1)


def test_a_stranger_shares_what_chance_gives(planted):
    found = pair(planted, "one", "stranger")
    assert abs(found.whole.cosine) < 0.1
    # Rank 4 and 5 of 32 inputs (three layers) and 128 (one): by chance 5/32 and 5/128.
    assert found.whole.chance_inputs == pytest.approx((3 * 5 / 32 + 5 / 128) / 4)
    assert found.whole.overlap_inputs == pytest.approx(found.whole.chance_inputs, abs=0.05)
    assert found.whole.overlap_outputs == pytest.approx(found.whole.chance_outputs, abs=0.05)


def test_only_what_is_read_is_shared(planted):
    whole = pair(planted, "one", "reader").whole
    assert whole.overlap_inputs == pytest.approx(1) and whole.overlap_outputs < 0.2


def test_strength_is_told_from_direction(planted):
    found = pair(planted, "one", "half")
    assert found.norm_ratio == pytest.approx(0.5) and found.whole.cosine == pytest.approx(1)
    assert "times 0.5" in str(found.verdict)
    assert pair(planted, "one", "against").whole.cosine == pytest.approx(-1)


def test_adapters_on_different_layers(planted):
    apart = pair(planted, "attention", "mlp")
    assert apart.verdict.code == "adapters-apart" and apart.modules == {} and apart.whole.cosine == 0
    inside = pair(planted, "one", "attention")
    assert len(inside.modules) == 2 and all("query_key_value" in name for name in inside.modules)


@pytest.mark.parametrize("name", ["one", "stranger", "patterns"])
def test_figures_equal_those_of_the_full_product(planted, name):
    """By torch's SVD of ΔW as PEFT makes it: rank patterns and rsLoRA in it."""
    from conftest import tiny_bloom
    from peft import PeftModel

    model = PeftModel.from_pretrained(tiny_bloom(), planted[name])
    found = AdapterPairs(read_adapters([planted[name], planted["one"]]))
    dense, other = {}, {module.name: module for module in found.adapters[0].modules}
    for module in other.values():
        layer = model.get_base_model().get_submodule(module.name)
        dense[module.name] = layer.get_delta_weight("default").detach().double()
        values = torch.linalg.svdvals(dense[module.name])[:module.rank]
        shares = values / values.sum()
        assert module.norm == pytest.approx(float(dense[module.name].norm()), rel=1e-5)
        assert module.effective_rank == pytest.approx(float((-shares * shares.log()).sum().exp()), rel=1e-4)
        assert module.rank == read_adapter(planted[name]).sites[module.name].rank
    assert found.adapters[0].norm == pytest.approx(math.hypot(*(float(w.norm()) for w in dense.values())), rel=1e-5)


def test_a_pair_equals_the_full_product(planted):
    one, other = (read_adapter(planted[name]) for name in ("one", "patterns"))
    name = next(iter(one.sites))
    found = next(AdapterPairs([one, other]).pairs()).modules[name]
    full = []
    for files in (one, other):
        tensors = load_file(files.path / WEIGHTS)
        a, b = (tensors[key].double() for key in files.sites[name].keys)
        full.append(files.scaling_of(name) * b @ a)
    assert found.cosine == pytest.approx(float((full[0] * full[1]).sum() / full[0].norm() / full[1].norm()))
    for side, overlap in ((lambda w: w.T, found.overlap_inputs), (lambda w: w, found.overlap_outputs)):
        bases = [torch.linalg.svd(side(w), full_matrices=False).U[:, :files.sites[name].rank]
                 for w, files in zip(full, (one, other), strict=True)]
        angles = torch.linalg.svdvals(bases[0].T @ bases[1])  # cosines of the principal angles
        assert overlap == pytest.approx(float(angles.square().mean()))


def test_ranks_that_repeat_one_another_do_not_count():
    a, b = torch.randn(4, 32), torch.randn(16, 4)
    a[1], b[:, 2] = a[0], 0.0
    found = Update.of(a, b, 2.0)
    assert len(found.values) == 2
    assert found.norm == pytest.approx(float((2 * b @ a).norm()), rel=1e-5)


def test_equal_singular_values_have_their_number_as_effective_rank():
    assert Update.of(torch.eye(3, 8), torch.eye(9, 3), 1.0).effective_rank == pytest.approx(3)
    assert Update.of(torch.zeros(3, 8), torch.ones(9, 3), 1.0).effective_rank == 0


def test_other_bases_are_noted_and_other_shapes_refused(planted, tmp_path):
    one = changed(tmp_path / "there", planted["one"], lambda key, v: v)
    two = changed(tmp_path / "here", planted["one"], lambda key, v: v)
    for path, content in ((one, "aa"), (two, "bb")):
        (path / "training.json").write_text(json.dumps({"base": {"content": content, "sha256": "same"}}))
    assert [note.code for note in AdapterPairs(read_adapters([one, two])).notes] == ["adapters-of-other-bases"]
    wide = changed(tmp_path / "wide", planted["attention"],
                   lambda key, v: torch.cat([v, v], 1) if "lora_A" in key else v)
    with pytest.raises(BadAdapter) as refused:
        AdapterPairs(read_adapters([planted["one"], wide]))
    assert refused.value.code == "adapters-of-other-shapes" and "(96, 64)" in str(refused.value)


def test_json_is_whole_and_strict(planted, capsys):
    assert main([str(planted[name]) for name in ("one", "zero", "shuffled", "one")] + ["--json"]) == 0
    said = capsys.readouterr()
    found = json.loads(said.out, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert [adapter["name"] for adapter in found["adapters"]] == ["one", "zero", "shuffled"]
    assert [(p["one"], p["other"], p["verdict"]) for p in found["pairs"]] == [
        ("one", "zero", "adapters-changes-nothing"), ("one", "shuffled", "adapters-same"),
        ("zero", "shuffled", "adapters-changes-nothing")]
    assert found["pairs"][0]["cosine"] is None and len(found["pairs"][1]["modules"]) == 8
    assert set(found["pairs"][1]["sentence"]) == {"en", "zh"}
    assert "compared once" in said.err


def test_tables_and_what_they_leave_out(planted, capsys, monkeypatch):
    monkeypatch.setattr("compare.adapters.MOST_SHOWN", 1)
    assert main([str(planted[name]) for name in ("one", "shuffled", "stranger")]) == 0
    said = capsys.readouterr()
    assert "yes: one and shuffled are the same update" in " ".join(said.out.split())
    assert "2 of 3 pairs are not shown" in said.err
    assert main([str(planted["one"]), str(planted["one"])]) == 2
    assert "error: 1 adapter given" in capsys.readouterr().err


def test_nothing_of_a_model_is_loaded(planted):
    program = ("import sys; from compare.adapters import main; status = main(sys.argv[1:]); "
               "assert not {'transformers', 'peft'} & set(sys.modules), 'a model library'; sys.exit(status)")
    ended = subprocess.run([sys.executable, "-c", program, str(planted["one"]), str(planted["half"])],
                           capture_output=True, text=True, cwd=Path(__file__).resolve().parent.parent)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("code", [code for code, said in sentences().items()
                                  if code.startswith("adapters-") and "{one}" in said["en"]])
def test_every_verdict_can_be_said(code):
    values = dict.fromkeys(("ratio", "cosine", "overlap_inputs", "overlap_outputs", "chance_inputs", "chance_outputs"),
                           0.5)
    note = Note(code, one="one", other="two", **values)
    assert "one" in note.said("en") and "two" in note.said("zh")
