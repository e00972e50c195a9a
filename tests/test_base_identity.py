"""A base is known by the contents of its weights: the same in any files, another for any other weights."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pytest
import torch
from conftest import ADAPTER, BASE
from safetensors.torch import load_file, save_file
from test_base import as_bin, shard

from lens.base import identity as identities
from lens.base.files import find_base
from lens.base.identity import base_identity, describe_base, file_sha256, same_base
from lens.data_home import cache_home
from lens.errors import BadAdapter
from tests.short import Engine

TIED = ("lm_head.weight", "transformer.word_embeddings.weight")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch) -> Path:
    """No test reads or writes the user's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return cache_home(os.environ) / "base_identity.json"


@pytest.fixture
def base(tiny_base, tmp_path) -> Path:
    return Path(shutil.copytree(tiny_base, tmp_path / "base"))


def rewritten(base: Path, **changes) -> str:
    """The identity with other weights in the one file."""
    weights = load_file(base / "model.safetensors")
    for key, value in changes.items():
        weights[key.replace("__", ".")] = value
    save_file(weights, base / "model.safetensors", {"format": "pt", "made": "at another time"})
    return base_identity(find_base(base))


@pytest.mark.filterwarnings("ignore:base .* is pickled")
def test_the_same_weights_are_the_same_base_in_any_files(base, tmp_path):
    one = base_identity(find_base(base))
    assert len(one) == 64 and set(one) <= set("0123456789abcdef")
    assert rewritten(base) == one  # another header, other offsets
    pickled, hub = (Path(shutil.copytree(base, tmp_path / name)) for name in ("pickled", "hub"))
    as_bin(pickled)
    weights = {key.removeprefix("transformer."): value for key, value in load_file(base / "model.safetensors").items()}
    save_file(weights, hub / "model.safetensors")  # as the hub names BLOOM's
    shard(base, 6)
    assert {base_identity(find_base(path)) for path in (base, pickled, hub)} == {one}


def test_a_tied_lm_head_does_not_change_it_and_another_one_does(base):
    one, words = base_identity(find_base(base)), load_file(base / "model.safetensors")[TIED[1]]
    assert rewritten(base, **{TIED[0]: words.clone()}) == one
    assert rewritten(base, **{TIED[0]: words + 1}) != one


def test_any_other_weights_are_another_base(base):
    weights = load_file(base / "model.safetensors")
    key = "transformer.ln_f.bias"
    changed = weights[key].clone()
    changed[-1] += 1e-6
    found = [base_identity(find_base(base)), rewritten(base, transformer__ln_f__bias=changed),
             rewritten(base, transformer__ln_f__bias=weights[key].half()),
             rewritten(base, transformer__ln_f__bias=weights[key].view(torch.int32).view(torch.float32).reshape(4, 8)),
             rewritten(base, transformer__ln_f__bias=weights["transformer.ln_f.weight"],
                       transformer__ln_f__weight=weights[key])]  # two that changed places
    assert len(set(found)) == len(found)


def test_tensors_longer_than_a_piece_are_read_to_their_end(base, monkeypatch):
    monkeypatch.setattr(identities, "CHUNK", 1000)
    one = base_identity(find_base(base))
    weights = load_file(base / "model.safetensors")
    weights[TIED[1]][-1, -1] += 1
    assert rewritten(base, transformer__word_embeddings__weight=weights[TIED[1]]) != one


def test_it_is_remembered_until_a_file_changes_in_any_way(base, own_cache, monkeypatch):
    files = find_base(base)
    weights = base / "model.safetensors"
    monkeypatch.setattr(identities, "SETTLED", -1)
    one = base_identity(files)
    computed: list[int] = []
    monkeypatch.setattr(identities, "identity", lambda _: computed.append(1) or "f" * 64)
    assert base_identity(files) == one and not computed
    was = weights.stat()
    with weights.open("r+b") as file:  # in place, of the same size, its time set back
        file.seek(-4, os.SEEK_END)
        file.write(b"\x01\x02\x03\x04")
    os.utime(weights, ns=(was.st_atime_ns, was.st_mtime_ns))
    assert base_identity(files) == "f" * 64 and len(computed) == 1
    assert one in own_cache.read_text()


@pytest.mark.parametrize("spoilt", [b"", b"{", b"[1]", b"\xff\xfe", b'{"%s": "no digest"}', b"[" * 100_000])
def test_a_damaged_cache_is_as_good_as_none(base, own_cache, spoilt, monkeypatch):
    monkeypatch.setattr(identities, "SETTLED", -1)
    one = base_identity(find_base(base))
    key = next(iter(json.loads(own_cache.read_text())))
    own_cache.write_bytes(spoilt.replace(b"%s", key.encode()))
    assert base_identity(find_base(base)) == one
    assert json.loads(own_cache.read_text())[key] == one


def test_a_file_that_was_just_written_is_not_remembered(base, own_cache):
    (base / "model.safetensors").touch()
    base_identity(find_base(base))
    assert not own_cache.exists()


def test_a_cache_that_cannot_be_written_is_done_without(base, tmp_path, monkeypatch):
    monkeypatch.setattr(identities, "SETTLED", -1)
    (tmp_path / "cache").write_text("a file where the directory would be")
    assert len(base_identity(find_base(base))) == 64


def test_what_an_adapter_recorded_is_held_against_the_base(base, tmp_path):
    other = Path(shutil.copytree(base, tmp_path / "other"))
    rewritten(other, transformer__ln_f__bias=torch.ones(32))
    files, others = find_base(base), find_base(other)
    about = describe_base(files)
    assert about["name"] == "base" and same_base(about, files) is True and same_base(about, others) is False
    old = {"name": "base", "sha256": about["sha256"]}
    assert same_base(old, files) is True and same_base(old, others) is False
    assert same_base({"name": "base"}, files) is same_base({"sha256": None, "content": 7}, files) is None
    shards = shard(base, 6)  # what training recorded of shards in the first edition
    assert same_base({"sha256": file_sha256(sorted(shards))}, find_base(base)) is True
    assert same_base(about, find_base(base)) is True and same_base(about, others) is False


def test_a_sharded_base_of_other_weights_is_refused_for_an_adapter(tiny_base, tmp_path):
    """The shipped adapter beside the tiny base and beside its own, both in shards."""
    tiny, own = (Path(shutil.copytree(path, tmp_path / name)) for path, name in ((tiny_base, "tiny"), (BASE, "own")))
    shard(tiny), shard(own, 6)
    with pytest.raises(BadAdapter, match="was trained on another base"):
        Engine(str(tiny), str(ADAPTER), device="cpu")
    assert Engine(str(own), str(ADAPTER), device="cpu").receipts["lens"].changes_anything


def test_a_base_of_a_hundred_megabytes_takes_well_under_a_second(tmp_path):
    """2.1 GB in under 2 s on two quiet cores is `python -m bench.base_identity`'s to say."""
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(BASE / name, tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bloom"}))
    save_file({f"h.{i}.x": torch.zeros(5_000_000) for i in range(5)}, tmp_path / "model.safetensors")
    files = find_base(tmp_path)
    began = time.process_time()
    base_identity(files)
    assert time.process_time() - began < 1.0
