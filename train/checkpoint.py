"""Adapter directories on disk: written aside and moved into place whole, read back only when sound.

A `checkpoint-N` is an adapter directory plus the state to go on from; it appears by one rename, so a
process killed at any moment leaves the last whole one. Nothing here unpickles code: weights come from
safetensors whose keys were judged first, state by `torch.load(weights_only=True)`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lens.adapter_config import LINEAR_LAYERS
from lens.errors import BadInput, first_line
from lens.file_mode import follow_umask
from lens.strict_json import dumps

PARTS = ("adapter_model.safetensors", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja",
         "training.json", "README.md", "adapter_config.json")  # moved in this order: the config last
STATE = ("trainer_state.json", "optimizer.pt", "scheduler.pt")
PART = ".part"  # what is being written lies in here, inside --output
KEY = re.compile(rf"base_model\.model\.transformer\.h\.\d+\.(self_attention|mlp)\.({'|'.join(LINEAR_LAYERS)})"
                 r"\.lora_[AB]\.weight")


def write_adapter(model, tokenizer, about: dict, output: Path, picture: bool = False) -> None:
    """Every part of an adapter directory into `output`, which is made.

    `about` is `training.json`'s contents; `picture`: the card shows the `loss.png` that will lie beside it.
    """
    from train.record.card import write_card

    output.mkdir(parents=True, exist_ok=True)
    model.peft_config["default"].base_model_name_or_path = about["base"]["name"]
    model.save_pretrained(output, save_embedding_layers=False)
    follow_umask(output)
    save_tokenizer(tokenizer, output)
    (output / "training.json").write_text(dumps(about, indent=1), encoding="utf-8")
    write_card(output / "README.md", about, picture)


def save_tokenizer(tokenizer, output: Path) -> None:
    """Raises OSError where it cannot be written: its Rust half says so by a plain `Exception`."""
    try:
        tokenizer.save_pretrained(output)
    except Exception as err:
        if type(err) is Exception:
            raise OSError(str(err)) from err
        raise


def replace_adapter(write: Callable[[Path], None], output: Path) -> None:
    """Let `write` fill a directory aside, then move its parts into `output`."""
    part = output / PART
    shutil.rmtree(part, ignore_errors=True)
    write(part)
    for name in PARTS:
        os.replace(part / name, output / name)
    shutil.rmtree(part)


def move_whole(part: Path, final: Path) -> None:
    """Make the finished directory `part` appear as `final` by one rename; what stood there goes."""
    for file in part.iterdir():
        with file.open("rb") as handle:
            os.fsync(handle.fileno())  # a rename must not outlive its contents in a power cut
    if final.exists():
        os.replace(final, part.with_name(f"old-{final.name}"))
    os.replace(part, final)
    shutil.rmtree(part.with_name(f"old-{final.name}"), ignore_errors=True)


def check_adapter_keys(path: Path) -> None:
    """Raises BadInput unless the file holds LoRA matrices of BLOOM alone.

    PEFT loads any key a file brings, the base's own included: a crafted adapter overwrites its base.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            keys = list(file.keys())
    except (SafetensorError, OSError) as err:
        raise BadInput(f"{path} cannot be read: {err}") from err
    odd = [key for key in keys if not KEY.fullmatch(key)]
    if odd or not keys:
        raise BadInput(f"{path} has {'key ' + repr(odd[0][:100]) if odd else 'no keys'}; allowed: lora_A and lora_B "
                       f"of {', '.join(LINEAR_LAYERS)}; take an adapter that python -m train wrote")


def load_adapter_weights(model, directory: Path) -> None:
    """A checkpoint's A and B into the PeftModel. Raises BadInput where they do not fit."""
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    path = directory / "adapter_model.safetensors"
    check_adapter_keys(path)
    weights = load_file(path)
    expected = sum("lora_" in name for name, _ in model.named_parameters())
    result: Any  # PEFT says `namedtuple`, which is no type
    try:
        result = set_peft_model_state_dict(model, weights)
    except (RuntimeError, KeyError, ValueError) as err:
        last = str(err).strip().splitlines()[-1].strip()
        raise BadInput(f"{path} does not fit ({last}); base and LoRA settings must be those it was made with") from err
    if result.unexpected_keys or len(weights) != expected:
        raise BadInput(f"{path} has {len(weights)} matrices where {expected} belong; "
                       "base and LoRA settings must be those it was made with")


def read_state(path: Path) -> None:
    """Read a file of a checkpoint through, by its kind; raises whatever a damaged or crafted one raises."""
    import torch
    from transformers.trainer_pt_utils import safe_globals

    if path.suffix == ".json":
        json.loads(path.read_text(encoding="utf-8"))
    elif path.suffix == ".safetensors":
        check_adapter_keys(path)
    elif path.suffix in (".pt", ".pth"):
        if damaged := zipfile.ZipFile(path).testzip():
            raise ValueError(f"{damaged} in it is damaged")
        with safe_globals():
            torch.load(path, map_location="cpu", weights_only=True)


def fault(checkpoint: Path) -> str | None:
    """Why a checkpoint cannot be gone on from, or None when it is whole."""
    for name in (*PARTS, *STATE):
        if not (checkpoint / name).is_file():
            return f"{name} is missing"
    if not any(checkpoint.glob("rng_state*.pth")):
        return "rng_state.pth is missing"
    run = checkpoint.parent.resolve()
    for path in sorted(checkpoint.iterdir()):
        if not path.resolve().is_relative_to(run):
            return f"{path.name} leads out of {checkpoint.parent}"
        try:
            read_state(path)
        except BadInput as err:
            return str(err)
        except Exception as err:  # noqa: BLE001 - whatever it raises, it is not gone on from
            return f"{path.name} cannot be read ({first_line(err)})"
    return None


def checkpoints(output: Path) -> list[Path]:
    """The `checkpoint-N` directories of a run, by step."""
    named = [p for p in output.glob("checkpoint-*") if p.name.removeprefix("checkpoint-").isdigit()]
    return sorted(named, key=step_of)


def step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("checkpoint-"))


def last_whole(output: Path) -> Path | None:
    """The newest checkpoint that is whole; newer ones that are not are named on stderr and passed over."""
    for checkpoint in reversed(checkpoints(output)):
        problem = fault(checkpoint)
        if problem is None:
            return checkpoint
        print(f"{checkpoint} is passed over: {problem}", file=sys.stderr)
    return None
