"""A base model, loaded for whoever needs one: training, comparing, evaluating, merging and the page.

`find_base` (lens.base.files) judges the directory without torch; here its tokenizer and weights are read, and where
and in which dtype it computes is decided.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch

from lens.base.files import OURS, BaseFiles, canonical, find_base
from lens.chat import end_id, use_template
from lens.chat_template import BadTemplate, layout_of
from lens.errors import BadBase, BadSetting, LensError, Note, Unavailable, first_line
from lens.gpu_memory import shared_gpu
from lens.strict_json import read_object

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
LARGEST_TEMPLATE = 1 << 20  # bytes
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
    """A loaded base: transformers' model in evaluation mode, and its tokenizer with a template.

    `end_ids`: every token of it ends an answer.
    """

    name: str
    path: Path
    model: Any
    tokenizer: Any
    device: str
    dtype: torch.dtype
    end_ids: frozenset[int] = frozenset()


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


def load_tokenizer(base: str | BaseFiles, template: str = "", limits: bool = True) -> Any:
    """A base's tokenizer with a chat template: the file `template`'s, else its own, else ours with the markers.

    Weights are not read; where `find_base` found a BLOOM's, they are held against config.json. `limits`: see
    lens.chat_template. Raises BadBase; BadSetting for a bad template file.
    """
    from transformers import AutoTokenizer

    files = base if isinstance(base, BaseFiles) else find_base(base, weights=False)
    rows = read_config(files.path).get_text_config().vocab_size
    text = read_template(template) if template else ""
    try:
        tokenizer = AutoTokenizer.from_pretrained(files.path, local_files_only=True, trust_remote_code=False)
        words = tokenizer.backend_tokenizer.get_vocab_size(with_added_tokens=False)
        tokenizer.backend_tokenizer.to_str()
        use_template(tokenizer, rows, text)
    except Exception as err:  # noqa: BLE001 (tokenizers raises a plain Exception)
        raise BadBase("base-tokenizer-unreadable", path=files.path, reason=first_line(err)) from err
    added = tokenizer.added_tokens_decoder.items()  # a special one beyond the rows is harmless: no text becomes it
    if words > rows or any(number >= rows and not token.special for number, token in added):
        raise BadBase("base-no-spare-rows", path=files.path, rows=f"{rows:,}", tokens=f"{len(tokenizer):,}")
    try:
        layout_of(tokenizer, limits)
    except BadTemplate as err:
        if template:
            raise BadSetting("chat-template-unusable", file=template, reason=first_line(err)) from err
        raise BadBase("base-template-unusable", path=files.path, reason=first_line(err)) from err
    if files.weights:
        check_weights(files)
    return tokenizer


def template_notes(base: str, tokenizer: Any) -> list[Note]:
    """What its user is to be told of how a base is asked. Raises BadTemplate."""
    return [] if layout_of(tokenizer).own_turn else [Note("base-template-no-system", path=base)]


def read_template(file: str) -> str:
    """A template from a file. Raises BadSetting."""
    try:
        if (size := Path(file).stat().st_size) > LARGEST_TEMPLATE:
            raise ValueError(f"{size:,} bytes, at most {LARGEST_TEMPLATE:,} are allowed")
        if text := Path(file).read_text(encoding="utf-8-sig"):
            return text
        raise ValueError("it is empty")
    except (OSError, ValueError) as err:
        raise BadSetting("chat-template-unreadable", file=repr(file[:200]), reason=first_line(err)) from err


def end_ids(files: BaseFiles, tokenizer: Any) -> frozenset[int]:
    """Every token that ends an answer: those of generation_config.json, the tokenizer's own, its template's end of
    turn."""
    try:
        named = read_object(files.path / "generation_config.json").get("eos_token_id")
    except (OSError, ValueError, RecursionError):
        named = files.config.get("eos_token_id")
    found = [*(named if isinstance(named, list) else [named]), tokenizer.eos_token_id, end_id(tokenizer)]
    return frozenset(number for number in found if type(number) is int)


def load_base(base: str | BaseFiles, device: str = "auto", dtype: str = "auto", tokenizer: Any = None) -> Base:
    """Load a base, whole or not at all; nothing of it is run as code. `tokenizer`: what `load_tokenizer` gave for it.

    Raises BadBase; BadSetting for a device that is not here; Unavailable where memory does not suffice.
    """
    from transformers import AutoModelForCausalLM

    files = base if isinstance(base, BaseFiles) else find_base(base)
    compute = pick_compute(device, dtype)
    tokenizer = tokenizer or load_tokenizer(files)
    with telling_failure(files, compute.device):
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            files.path, dtype=compute.dtype, use_safetensors=not files.pickled, local_files_only=True,
            trust_remote_code=False, output_loading_info=True)
        model, found = loaded
        check_loaded(files, found)
        model = model.to(compute.device).eval()
    return Base(files.name, files.path, model, tokenizer, compute.device, compute.dtype, end_ids(files, tokenizer))


def check_loaded(files: BaseFiles, found: Mapping[str, Any]) -> None:
    """Raises BadBase where transformers found weights missing, or some that have no place: it would go on."""
    for what, code in (("missing_keys", "base-weights-missing"), ("unexpected_keys", "base-weights-unexpected")):
        if odd := sorted(map(str, found.get(what) or ())):
            raise BadBase(code, path=files.path, count=len(odd), key=repr(odd[0])[:120])


def too_large(path: Path, device: str) -> Unavailable:
    """A base that does not fit into memory; on a GPU also what other programs hold of it."""
    if shared := shared_gpu(device):
        return Unavailable("base-too-large-gpu-shared", path=path, **shared)
    return Unavailable("base-too-large", path=path)


@contextmanager
def telling_failure(files: BaseFiles, device: str = "cpu") -> Iterator[None]:
    """Turns what torch and transformers raise over a base's weights into one sentence."""
    try:
        yield
    except LensError:
        raise
    except (MemoryError, torch.OutOfMemoryError) as err:
        raise too_large(files.path, device) from err
    except pickle.UnpicklingError as err:
        raise BadBase("base-pickle-refused", path=files.path) from err  # torch's reason says how to run it
    except Exception as err:  # noqa: BLE001 (they have no common ancestor)
        if "allocate memory" in str(err):  # torch's RuntimeError on a CPU
            raise too_large(files.path, device) from err
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
    """Raises BadBase where a BLOOM's weights are not those that config.json describes, all and no others.

    transformers would make up what is missing at random, and only print so. Other families have renamed weights in
    the course of time, which transformers alone knows: theirs are looked at as they are loaded.
    """
    if files.config.get("model_type") != OURS:
        return
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
