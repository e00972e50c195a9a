"""A base model's directory, found by path, link, hub name or hub cache, and judged before anything loads it.

Judged from its small files and the headers of its weights, without torch: what is broken is told at once.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lens.adapter.weights import read_header
from lens.base.hub_files import fetch, fetch_weights
from lens.errors import BadBase, first_line, said
from lens.strict_json import read_object

OURS = "bloom"  # config.json's model_type of the family that is the default, and whose weights' names are known here
HEADS = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration", "Model")  # ends of the classes that decoders name
WHOLE = ("model.safetensors", "pytorch_model.bin")  # the first that is there counts, as in transformers
SMALL = ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja",
         "special_tokens_map.json"]
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
POINTER = b"version https://git-lfs"
FLOATS = ("F64", "F32", "F16", "BF16")
OTHERS = (".safetensors", ".bin", ".gguf", ".pt", ".pth", ".h5")  # weights of any kind, to name what is there
LARGEST_INDEX = 16 << 20  # bytes


@dataclass(frozen=True)
class Tensor:
    """One weight where a safetensors file holds it: its bytes are `start` to `end` of the file."""

    dtype: str
    shape: tuple[int, ...]
    file: Path
    start: int
    end: int


@dataclass(frozen=True)
class BaseFiles:
    """A base that was found: its short name, its directory (links resolved), its config.json and its weights' files.

    `tensors`, by canonical name, is empty where the weights are pickled or were not asked for.
    """

    name: str
    path: Path
    config: dict[str, Any]
    weights: tuple[Path, ...] = ()
    tensors: dict[str, Tensor] = field(default_factory=dict, repr=False)

    @property
    def pickled(self) -> bool:
        return any(file.suffix == ".bin" for file in self.weights)


def canonical(name: str) -> str:
    """A weight's name as the hub's BLOOM checkpoints have it; transformers writes `transformer.` before it."""
    return name.removeprefix("transformer.")


def find_base(name: str | Path, weights: bool = True) -> BaseFiles:
    """The base of a directory or a hub name. Without `weights` a hub's are not fetched, nor a directory's looked at.

    Raises BadBase. Warns of weights that are pickled, of those that are passed over, and of how much a hub sends.
    """
    path = local_directory(str(name))
    hub = str(name) if path is None else None
    path = path or fetch(str(name), SMALL)
    try:
        config = judged_config(path)
        check_file(path / "tokenizer.json", "base-no-tokenizer")
        if not weights:
            return BaseFiles(hub or short_name(path), path, config)
        if hub:
            fetch_weights(hub)
        files, index = weight_files(path)
        tell_of_others(path, files)
        return BaseFiles(hub or short_name(path), path, config, files, read_tensors(files, index))
    except OSError as err:
        raise BadBase("base-not-readable", path=path, reason=err.strerror or first_line(err)) from err


def local_directory(name: str) -> Path | None:
    """The directory of that name, links resolved; None where it can only be a hub's name."""
    try:
        path = Path(os.path.realpath(os.path.expanduser(name)))
        if name and path.is_dir():
            return path
        if name and path.exists():
            raise BadBase("base-is-a-file", path=name[:200], folder=path.parent)
    except (OSError, ValueError) as err:  # a name that no file system takes
        if isinstance(err, BadBase):
            raise
        raise BadBase("base-name-impossible", name=repr(name[:80])) from err
    if not HUB_NAME.fullmatch(name):
        raise BadBase("base-no-directory", name=repr(name[:200]))
    return None


def short_name(path: Path) -> str:
    """A directory's own name; a snapshot in the hub's cache has its repository's rather than a commit's."""
    repository = path.parent.parent.name
    if path.parent.name == "snapshots" and repository.startswith("models--"):
        return repository.removeprefix("models--").replace("--", "/", 1)
    return path.name


def judged_config(path: Path) -> dict[str, Any]:
    """config.json, of a decoder that transformers knows, in plain numbers."""
    names = {file.name for file in path.iterdir()}
    if not names:
        raise BadBase("base-folder-empty", path=path)
    if "config.json" not in names:
        raise BadBase("base-is-an-adapter" if "adapter_config.json" in names else "base-no-config", path=path)
    check_file(path / "config.json", "base-no-config")
    try:
        config = read_object(path / "config.json")
    except (ValueError, RecursionError) as err:
        raise BadBase("base-config-unreadable", path=path, reason=first_line(err)) from err
    if (kind := config.get("model_type")) != OURS and not is_decoder(config):
        raise BadBase("base-other-architecture", path=path, kind=repr(kind)[:80])
    if (quantized := config.get("quantization_config")) is not None:
        method = quantized.get("quant_method") if isinstance(quantized, dict) else quantized
        raise BadBase("base-is-quantized", path=path, method=repr(method)[:80])
    if "adapter_config.json" in names:  # transformers would load it into the base without a word
        raise BadBase("base-holds-an-adapter", path=path)
    return config


def is_decoder(config: dict[str, Any]) -> bool:
    """Does transformers itself have a causal language model of that kind? Code that a model brings along never runs."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    named = config.get("architectures") or [HEADS[0]]
    return (str(config.get("model_type")) in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and isinstance(named, list)
            and any(str(name).endswith(HEADS) for name in named) and config.get("is_encoder_decoder") is not True)


def check_file(file: Path, missing: str) -> None:
    """A file that is there, and more than the pointer to one."""
    if not file.is_file():
        raise BadBase(missing, path=file.parent, file=file.name)
    with file.open("rb") as opened:
        if opened.read(len(POINTER)) == POINTER:
            raise BadBase("base-file-is-a-pointer", path=file.parent, file=file.name)


def weight_files(path: Path) -> tuple[tuple[Path, ...], dict[str, str]]:
    """The files that hold the weights, and for shards which holds which: one whole file, else those of an index."""
    for whole in WHOLE:
        if (path / whole).exists():
            files: tuple[Path, ...] = (path / whole,)
            index: dict[str, str] = {}
        elif (path / f"{whole}.index.json").exists():
            index = read_index(path / f"{whole}.index.json")
            files = tuple(path / name for name in sorted(set(index.values())))
        else:
            continue
        for file in files:
            check_file(file, "base-shard-missing")
        if whole.endswith(".bin"):
            warnings.warn(said("base-weights-pickled", "en", {"path": path, "file": files[0].name}), stacklevel=3)
        return files, index
    found = sorted(p.name for p in path.iterdir() if p.suffix in OTHERS)
    raise BadBase("base-no-weights", path=path, found=", ".join(found)[:200] or "-")


def read_index(file: Path) -> dict[str, str]:
    """Weight → the name of the shard that holds it, in the index's own directory."""
    check_file(file, "base-shard-missing")
    try:
        index = read_object(file, LARGEST_INDEX).get("weight_map")
    except (ValueError, RecursionError) as err:
        raise BadBase("base-index-unreadable", path=file.parent, file=file.name, reason=first_line(err)) from err
    if not isinstance(index, dict) or not index or not all(
            isinstance(shard, str) and Path(shard).name == shard for shard in index.values()):
        raise BadBase("base-index-unreadable", path=file.parent, file=file.name, reason="weight_map")
    return index


def tell_of_others(path: Path, files: Sequence[Path]) -> None:
    if others := sorted({p.name for p in path.glob("*.safetensors")} - {file.name for file in files}):
        used = files[0].name + (f" … {files[-1].name}" if len(files) > 1 else "")
        warnings.warn(said("base-weights-ignored", "en", {"path": path, "files": ", ".join(others)[:200],
                                                          "used": used}), stacklevel=3)


def read_tensors(files: Sequence[Path], index: dict[str, str]) -> dict[str, Tensor]:
    """All tensors of the safetensors among the files, by canonical name, as the index says they lie."""
    found: dict[str, Tensor] = {}
    for file in (f for f in files if f.suffix == ".safetensors"):
        for name, tensor in file_tensors(file).items():
            if index and index.get(name) != file.name or canonical(name) in found:
                raise BadBase("base-index-differs", path=file.parent, file=file.name, key=repr(name)[:120])
            found[canonical(name)] = tensor
    if found and index and (missing := [name for name in index if canonical(name) not in found]):
        raise BadBase("base-index-differs", path=files[0].parent, file=index[missing[0]], key=repr(missing[0])[:120])
    return found


def file_tensors(file: Path) -> dict[str, Tensor]:
    """What a safetensors file's header says it holds, which has to be as much as it has."""
    try:
        header = read_header(file)
        with file.open("rb") as opened:
            start = 8 + int.from_bytes(opened.read(8), "little")
        found = {name: Tensor(entry["dtype"], tuple(map(int, entry["shape"])), file,
                              *(start + int(at) for at in entry["data_offsets"])) for name, entry in header.items()}
    except (ValueError, TypeError, KeyError, RecursionError) as err:
        raise BadBase("base-file-unreadable", path=file.parent, file=file.name, reason=first_line(err)) from err
    size, expected = file.stat().st_size, max((t.end for t in found.values()), default=start)
    if size != expected:
        raise BadBase("base-file-cut", path=file.parent, file=file.name, size=f"{size:,}", expected=f"{expected:,}")
    if odd := [(name, t.dtype) for name, t in found.items() if t.dtype not in FLOATS]:
        raise BadBase("base-weights-not-floats", path=file.parent, key=repr(odd[0][0])[:120], dtype=str(odd[0][1])[:20],
                      allowed=", ".join(FLOATS))
    return found
