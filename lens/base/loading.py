"""A base model, loaded for whoever needs one: training, comparing, evaluating, merging and the page.

`find_base` (lens.base.files) judges the directory without torch; here its tokenizer and weights are read, and where
and in which dtype it computes is decided.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch

from lens.base.files import BaseFiles, canonical, find_base
from lens.chat import lay_out, use_our_template
from lens.errors import BadBase, BadSetting, LensError, Unavailable, first_line

__all__ = ["Base", "BaseFiles", "Compute", "find_base", "load_base", "load_tokenizer", "pick_compute"]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
TIED = "lm_head.weight"  # BLOOM's is the embedding's own matrix; files need not hold it


@dataclass(frozen=True)
class Compute:
    """Where a model computes (torch's name of the device), and in which dtype."""

    device: str
    dtype: torch.dtype

    @property
    def dtype_name(self) -> str:
        return str(self.dtype).removeprefix("torch.")

    def __str__(self) -> str:
        return f"{self.device}, {self.dtype_name}"


@dataclass(frozen=True)
class Base:
    """A loaded base: transformers' model in evaluation mode, and its tokenizer with our markers and template."""

    name: str
    path: Path
    model: Any
    tokenizer: Any
    device: str
    dtype: torch.dtype


def pick_compute(device: str = "auto", dtype: str = "auto") -> Compute:
    """What was asked for, where this machine has it. Raises BadSetting.

    By itself a GPU where there is one, in bf16 where it has it, else fp16; float32 on a CPU, where bf16 is ruinous on
    some processors.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as err:
        raise BadSetting("device-not-available", device=repr(device[:40])) from err
    if dtype != "auto":
        return Compute(device, DTYPES[dtype])
    if not device.startswith("cuda"):
        return Compute(device, torch.float32)
    whole = torch.cuda.is_bf16_supported(including_emulation=False)
    return Compute(device, torch.bfloat16 if whole else torch.float16)


def load_tokenizer(base: str | BaseFiles) -> Any:
    """A base's tokenizer with the chat markers (in spare rows of the embedding) and a template.

    Weights are not read; where `find_base` found them, they are held against config.json. Raises BadBase.
    """
    from transformers import AutoTokenizer

    files = base if isinstance(base, BaseFiles) else find_base(base, weights=False)
    rows = read_config(files.path).get_text_config().vocab_size
    try:
        tokenizer = AutoTokenizer.from_pretrained(files.path, local_files_only=True, trust_remote_code=False)
        tokenizer.backend_tokenizer.to_str()
    except Exception as err:  # noqa: BLE001 (tokenizers raises a plain Exception)
        raise BadBase("base-tokenizer-unreadable", path=files.path, reason=first_line(err)) from err
    use_our_template(tokenizer)
    if len(tokenizer) > rows:
        raise BadBase("base-no-spare-rows", path=files.path, rows=f"{rows:,}", tokens=f"{len(tokenizer):,}")
    try:
        lay_out(tokenizer)
    except Exception as err:  # noqa: BLE001 (a template may raise anything)
        raise BadBase("base-template-unusable", path=files.path, reason=first_line(err)) from err
    if files.weights:
        check_weights(files)
    return tokenizer


def load_base(base: str | BaseFiles, device: str = "auto", dtype: str = "auto", tokenizer: Any = None) -> Base:
    """Load a base, whole or not at all; nothing of it is run as code. `tokenizer`: what `load_tokenizer` gave for it.

    Raises BadBase; BadSetting for a device that is not here; Unavailable where memory does not suffice.
    """
    from transformers import AutoModelForCausalLM

    files = base if isinstance(base, BaseFiles) else find_base(base)
    compute = pick_compute(device, dtype)
    tokenizer = tokenizer or load_tokenizer(files)
    with telling_failure(files):
        model: Any = AutoModelForCausalLM.from_pretrained(
            files.path, dtype=compute.dtype, use_safetensors=not files.pickled, local_files_only=True,
            trust_remote_code=False)
        model = model.to(compute.device).eval()
    return Base(files.name, files.path, model, tokenizer, compute.device, compute.dtype)


@contextmanager
def telling_failure(files: BaseFiles) -> Iterator[None]:
    """Turns what torch and transformers raise over a base's weights into one sentence."""
    try:
        yield
    except LensError:
        raise
    except (MemoryError, torch.OutOfMemoryError) as err:
        raise Unavailable("base-too-large", path=files.path) from err
    except pickle.UnpicklingError as err:
        raise BadBase("base-pickle-refused", path=files.path) from err  # torch's reason says how to run it
    except Exception as err:  # noqa: BLE001 (they have no common ancestor)
        if "allocate memory" in str(err):  # torch's RuntimeError on a CPU
            raise Unavailable("base-too-large", path=files.path) from err
        raise BadBase("base-weights-refused", path=files.path, reason=first_line(err)) from err


def read_config(path: Path) -> Any:
    """transformers' config of a base. Raises BadBase for values that it does not take."""
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except Exception as err:  # noqa: BLE001 (a value of any kind may be in it)
        raise BadBase("base-config-unusable", path=path, reason=first_line(err)) from err


def blank_model(path: Path) -> Any:
    """The model that config.json describes, without weights: shapes alone. Raises BadBase."""
    from transformers import AutoModelForCausalLM

    config, auto = read_config(path), cast(Any, AutoModelForCausalLM)
    try:
        with torch.device("meta"):
            return auto.from_config(config, trust_remote_code=False)
    except Exception as err:  # noqa: BLE001 (a value of any kind may be in it)
        raise BadBase("base-config-unusable", path=path, reason=first_line(err)) from err


def unpickle(files: BaseFiles) -> dict[str, torch.Tensor]:
    """The tensors of `.bin` weights by canonical name, mapped rather than read; no code in them is run."""
    found: dict[str, torch.Tensor] = {}
    with telling_failure(files):
        for file in files.weights:
            state = torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
            found |= {canonical(name): tensor for name, tensor in state.items()}
    return found


def check_weights(files: BaseFiles) -> None:
    """Raises BadBase where the weights are not those that config.json describes, all and no others.

    transformers would make up what is missing at random, and only print so.
    """
    blank = blank_model(files.path)
    wanted = {canonical(name): tuple(tensor.shape) for name, tensor in blank.state_dict().items()}
    stored = unpickle(files) if files.pickled else files.tensors
    found = {name: tuple(tensor.shape) for name, tensor in stored.items()}
    if TIED not in found and blank.config.tie_word_embeddings:
        del wanted[TIED]
    if missing := sorted(wanted.keys() - found.keys()):
        raise BadBase("base-weights-missing", path=files.path, count=len(missing), key=missing[0])
    if others := sorted(found.keys() - wanted.keys()):
        raise BadBase("base-weights-unexpected", path=files.path, count=len(others), key=repr(others[0])[:120])
    if odd := sorted(name for name in wanted if wanted[name] != found[name]):
        raise BadBase("base-weights-misshapen", path=files.path, count=len(odd), key=odd[0], found=found[odd[0]],
                      wanted=wanted[odd[0]])
