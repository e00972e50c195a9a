"""A base is found by any path, told in one sentence where it is broken, and loaded whole or not at all."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import ADAPTER, BASE
from safetensors.torch import load_file, save_file
from training import settings

import app
import compare.__main__
import compare.evaluate
import train.__main__
import train.merge
from lens.base.files import find_base
from lens.base.loading import load_base, load_tokenizer, pick_compute
from lens.errors import BadBase, BadSetting
from tests.short import Engine
from train.loop import train as run_training

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
WEIGHTS = "model.safetensors"


@pytest.fixture
def base(tiny_base, tmp_path) -> Path:
    """A copy of the tiny base, to be spoilt."""
    return Path(shutil.copytree(tiny_base, tmp_path / "a-base"))


def change_config(base: Path, **changes: object) -> None:
    config = json.loads((base / "config.json").read_text()) | changes
    (base / "config.json").write_text(json.dumps(config))


def change_weights(base: Path, change: Callable[[dict], object]) -> None:
    weights = load_file(base / WEIGHTS)
    change(weights)
    save_file(weights, base / WEIGHTS, {"format": "pt"})


def cut(file: Path, share: float) -> None:
    file.write_bytes(file.read_bytes()[:int(file.stat().st_size * share)])


def only(base: Path, *names: str) -> None:
    """Nothing but these."""
    for file in base.iterdir():
        if file.name not in names:
            file.unlink()


def shard(base: Path, count: int = 2) -> list[Path]:
    """Turn the one file into shards and an index."""
    weights = load_file(base / WEIGHTS)
    (base / WEIGHTS).unlink()
    names = sorted(weights)
    files = [base / f"model-{i + 1:05d}-of-{count:05d}.safetensors" for i in range(count)]
    held = {file: names[i::count] for i, file in enumerate(files)}
    for file, keys in held.items():
        save_file({key: weights[key] for key in keys}, file, {"format": "pt"})
    index = {"metadata": {}, "weight_map": {key: file.name for file, keys in held.items() for key in keys}}
    (base / f"{WEIGHTS}.index.json").write_text(json.dumps(index))
    return files


def as_bin(base: Path, weights: object = None) -> None:
    torch.save(load_file(base / WEIGHTS) if weights is None else weights, base / "pytorch_model.bin")
    (base / WEIGHTS).unlink()


class Code:
    """What runs when it is unpickled."""

    def __reduce__(self):
        return (Path.touch, (Path("it-ran"),))


def as_adapter(base: Path) -> None:
    only(base)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copy(ADAPTER / name, base)


def one_layer_less(weights: dict) -> None:
    for key in [key for key in weights if ".h.1." in key]:
        del weights[key]


def without_spare_rows(base: Path) -> None:
    """A tokenizer over an embedding with fewer rows than it has tokens."""
    config = json.loads((base / "tokenizer_config.json").read_text())
    tokenizer = json.loads((base / "tokenizer.json").read_text())
    del config["extra_special_tokens"]
    tokenizer["added_tokens"] = [t for t in tokenizer["added_tokens"] if "utterance" not in t["content"]]
    (base / "tokenizer_config.json").write_text(json.dumps(config))
    (base / "tokenizer.json").write_text(json.dumps(tokenizer))
    (base / "chat_template.jinja").unlink()
    rows = len(tokenizer["model"]["vocab"]) - 1
    change_config(base, vocab_size=rows)
    change_weights(base, lambda w: w.update(
        {"transformer.word_embeddings.weight": w["transformer.word_embeddings.weight"][:rows].clone()}))


BROKEN: dict[str, tuple[Callable[[Path], object], str, str]] = {  # what → how, its code, what is told of it
    "a pointer": (lambda b: (b / WEIGHTS).write_bytes(POINTER), "base-file-is-a-pointer", "git lfs pull"),
    "a tokenizer's pointer": (lambda b: (b / "tokenizer.json").write_bytes(POINTER), "base-file-is-a-pointer",
                              "tokenizer.json is a Git LFS pointer"),
    "cut": (lambda b: cut(b / WEIGHTS, 0.7), "base-file-cut", "cut off or damaged, fetch it again"),
    "cut in its header": (lambda b: cut(b / WEIGHTS, 0.001), "base-file-unreadable", "no whole safetensors file"),
    "quantized": (lambda b: change_config(b, quantization_config={"quant_method": "bitsandbytes"}),
                  "base-is-quantized", "'bitsandbytes'"),
    "more layers": (lambda b: change_config(b, n_layer=3), "base-weights-missing", "12 of the weights"),
    "fewer layers": (lambda b: change_config(b, n_layer=1), "base-weights-unexpected", "12 weights have no place"),
    "weights of fewer layers": (lambda b: change_weights(b, one_layer_less), "base-weights-missing", "h.1."),
    "another width": (lambda b: change_config(b, hidden_size=64), "base-weights-misshapen", "(32,), expected (64,)"),
    "a size that is none": (lambda b: change_config(b, hidden_size="wide"), "base-config-unusable", "config.json"),
    "a broken tokenizer": (lambda b: cut(b / "tokenizer.json", 0.5), "base-tokenizer-unreadable", "tokenizer"),
    "no tokenizer": (lambda b: (b / "tokenizer.json").unlink(), "base-no-tokenizer", "tokenizer.json is missing"),
    "a broken template": (lambda b: (b / "chat_template.jinja").write_text("{% if %}"), "base-template-unusable",
                          "chat template"),
    "no spare rows": (without_spare_rows, "base-no-spare-rows", "too few for the tokenizer's"),
    "empty": (only, "base-folder-empty", "is empty"),
    "no config": (lambda b: (b / "config.json").unlink(), "base-no-config", "no config.json"),
    "a broken config": (lambda b: cut(b / "config.json", 0.5), "base-config-unreadable", "config.json cannot be read"),
    "no weights": (lambda b: (b / WEIGHTS).rename(b / "mine.safetensors"), "base-no-weights", "mine.safetensors"),
    "another kind": (lambda b: change_config(b, model_type="t5"), "base-other-architecture", "'t5' model; allowed"),
    "an adapter": (as_adapter, "base-is-an-adapter", "by --adapter"),
    "an adapter in it": (lambda b: shutil.copy(ADAPTER / "adapter_config.json", b), "base-holds-an-adapter", "move"),
    "a missing shard": (lambda b: shard(b)[1].unlink(), "base-shard-missing", "00002-of-00002.safetensors is missing"),
    "an index that leads out": (lambda b: (shard(b), (b / f"{WEIGHTS}.index.json").write_text(
        json.dumps({"weight_map": {"a": "../x.safetensors"}}))), "base-index-unreadable", "weight_map"),
    "shards of two models": (lambda b: shutil.copy(shard(b)[0], b / "model-00002-of-00002.safetensors"),
                             "base-index-differs", "disagree about"),
    "whole numbers": (lambda b: change_weights(b, lambda w: w.update(
        {"transformer.ln_f.weight": torch.ones(32, dtype=torch.int8)})), "base-weights-not-floats", "I8; allowed: F64"),
    "a pickle that runs code": (lambda b: as_bin(b, {"a": Code()}), "base-pickle-refused", "could run code"),
    "a cut pickle": (lambda b: (as_bin(b), cut(b / "pytorch_model.bin", 0.9)), "base-weights-refused",
                     "cannot be loaded"),
}
EVERYWHERE = {  # an entry's arguments, but for --base
    "compare": (compare.__main__.main, ["校训？", "--device", "cpu"]),
    "train": (train.__main__.main, ["--output", "{tmp}/out", "--device", "cpu"]),
    "evaluate": (compare.evaluate.main, ["--output", "{tmp}/report", "--adapter", str(ADAPTER), "--device", "cpu"]),
    "merge": (train.merge.main, [str(ADAPTER), "--output", "{tmp}/merged"]),
    "app": (app.main, ["--device", "cpu"]),
}


@pytest.mark.filterwarnings("ignore:base .* is pickled")
@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_base_is_told_alike_everywhere(base, tmp_path, monkeypatch, capsys, what):
    monkeypatch.chdir(tmp_path)
    spoil, code, told = BROKEN[what]
    spoil(base)
    with pytest.raises(BadBase) as caught:
        load_base(find_base(base), "cpu")
    assert caught.value.code == code and told in str(caught.value) and str(base) in caught.value.zh
    for name, (main, options) in EVERYWHERE.items():
        assert main([*(o.format(tmp=tmp_path) for o in options), "--base", str(base)]) == 2, name
        lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("note: ")]  # of the rows
        assert lines == [f"error: {caught.value}"], name
    assert not (tmp_path / "it-ran").exists() and not (tmp_path / "out").exists() and not (tmp_path / "merged").exists()


@pytest.mark.parametrize("name, code", [
    ("nowhere", "base-no-directory"), ("", "base-no-directory"), ("./no/such/place", "base-no-directory"),
    ("nobody/nothing", "base-not-on-hub"), ("x" * 5000, "base-name-impossible"), ("a\0b", "base-name-impossible"),
    ("{base}/config.json", "base-is-a-file"), ("{base}/loop", "base-no-directory"),
])
def test_a_name_that_is_no_base_is_told(base, name, code):
    (base / "loop").symlink_to("loop")
    with pytest.raises(BadBase) as caught:
        find_base(name.format(base=base))
    assert caught.value.code == code and "\n" not in str(caught.value)


def test_a_base_is_the_same_by_every_path(tiny_base, tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(tiny_base)
    monkeypatch.chdir(tiny_base.parent)
    names = [str(tiny_base), f"{tiny_base}/", "base", "./base/", f"{tmp_path}/link", f"{tmp_path}/link/"]
    assert {find_base(name).path for name in names} == {tiny_base.resolve()}
    monkeypatch.chdir(tiny_base)
    assert find_base(".").name == "base"


def test_a_hub_name_and_its_snapshot_are_found_in_the_cache(tiny_base, tmp_path, monkeypatch):
    """As the hub's client lays it out: files are links to blobs, the directory's name is a commit."""
    commit, home = "c" * 40, tmp_path / "models--someone--a-bloom"
    snapshot = home / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (home / "blobs").mkdir()
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(commit)
    for file in tiny_base.iterdir():
        shutil.copy(file, home / "blobs" / file.name)
        (snapshot / file.name).symlink_to(f"../../blobs/{file.name}")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    by_name, by_path = find_base("someone/a-bloom"), find_base(snapshot)
    assert by_name == by_path and by_name.name == "someone/a-bloom" and by_name.path == snapshot.resolve()
    assert load_base("someone/a-bloom", "cpu").name == "someone/a-bloom"
    (snapshot / WEIGHTS).unlink()
    assert load_tokenizer("someone/a-bloom")  # no weights are asked for
    with pytest.raises(BadBase) as caught:
        find_base("someone/a-bloom")
    assert caught.value.code == "base-no-weights"


def sent_by_hub(monkeypatch, cache, base, sizes: dict[str, int]) -> list[str]:
    """The hub has the files of `base`, and says these sizes of its weights; returns what is fetched, as it is."""
    fetched: list[str] = []

    def info(api, name, files_metadata, timeout):
        assert files_metadata and timeout
        return SimpleNamespace(siblings=[
            SimpleNamespace(rfilename=file, size=size, blob_id="", lfs=SimpleNamespace(sha256=f"of {file}"))
            for file, size in {**sizes, "README.md": 10 ** 15}.items()])

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", info)
    monkeypatch.setattr("huggingface_hub.snapshot_download",
                        lambda name, allow_patterns: fetched.extend(allow_patterns) or str(base))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache / "not there yet"))
    return fetched


def test_what_the_hub_sends_is_told_before_it_comes(tiny_base, tmp_path, monkeypatch):
    fetched = sent_by_hub(monkeypatch, tmp_path, tiny_base, {WEIGHTS: 12_340_000, "model.onnx": 10 ** 15})
    with pytest.warns(UserWarning, match=r"someone/a-bloom: 0\.01 GB of weights are fetched from the hub into"):
        assert find_base("someone/a-bloom").name == "someone/a-bloom"
    assert "model*.safetensors" in fetched
    blob = tmp_path / "not there yet" / "models--someone--a-bloom" / "blobs" / f"of {WEIGHTS}"
    blob.parent.mkdir(parents=True)
    blob.touch()  # it is in the cache, under its sum: nothing is to come
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        find_base("someone/a-bloom")


def test_what_the_disk_has_no_room_for_is_not_fetched(tiny_base, tmp_path, monkeypatch):
    fetched = sent_by_hub(monkeypatch, tmp_path, tiny_base, {WEIGHTS: 10 ** 15})
    with pytest.raises(BadBase, match=r"its weights take 1000000\.00 GB, and .* has .* free") as caught:
        find_base("someone/a-bloom")
    assert caught.value.code == "base-larger-than-disk" and "model*.safetensors" not in fetched
    find_base("someone/a-bloom", weights=False)  # a tokenizer alone is no matter


def test_shards_and_pickled_weights_answer_as_the_one_file(base, tmp_path):
    ids = torch.arange(4, 24)[None]
    whole = load_base(str(base), "cpu").model(input_ids=ids).logits
    pickled = Path(shutil.copytree(base, tmp_path / "pickled"))
    shard(base, 3)
    as_bin(pickled)
    assert torch.equal(load_base(str(base), "cpu").model(input_ids=ids).logits, whole)
    with pytest.warns(UserWarning, match="pytorch_model.bin is pickled; only its tensors are read"):
        assert torch.equal(load_base(str(pickled), "cpu").model(input_ids=ids).logits, whole)


def test_a_second_file_of_weights_is_passed_over_and_told(base):
    tiny = load_base(str(base), "cpu").model.state_dict()
    save_file({"a": torch.zeros(3)}, base / "another.safetensors")
    with pytest.warns(UserWarning, match="another.safetensors is passed over; the weights are those of model.safe"):
        loaded = load_base(str(base), "cpu")
    assert all(torch.equal(tiny[key], value) for key, value in loaded.model.state_dict().items())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_training_holds_the_frozen_base_in_the_dtype_it_computes_in(tiny_base, tmp_path, rows_file, dtype, monkeypatch):
    """Two bytes a parameter; A and B stay float32, and learn."""
    seen: dict[str, torch.nn.Module] = {}

    def keep(run):
        seen["model"] = run.trainer.model
        go(run)

    from train.loop import go

    monkeypatch.setattr("train.loop.go", keep)
    out = run_training(settings(tiny_base, tmp_path / "out", rows_file, dtype=dtype, learning_rate=0.01,
                                warmup_steps=0))
    kinds = {("lora_" in name, parameter.dtype) for name, parameter in seen["model"].named_parameters()}
    assert kinds == {(False, getattr(torch, dtype)), (True, torch.float32)}
    about = json.loads((out / "training.json").read_text())
    assert about["dtype"] == dtype and about["losses"][-1]["loss"] < about["losses"][0]["loss"]
    assert any(value.any() for key, value in load_file(out / "adapter_model.safetensors").items() if "lora_B" in key)


def test_what_is_no_device_is_told():
    with pytest.raises(BadSetting, match="device 'warp' is not available here; allowed: auto, cpu"):
        pick_compute("warp")
    assert str(pick_compute("cpu")) == "cpu, float32"


def test_the_embedded_base_loads_with_its_adapter_by_a_relative_path(monkeypatch):
    monkeypatch.chdir(BASE.parent.parent)
    engine = Engine("assets/base/", str(ADAPTER), device="cpu")
    assert engine.receipts["lens"].changes_anything
