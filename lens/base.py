"""A BLOOM and its tokenizer from a directory or hub name, and where and in what dtype it runs. Raises BadBase."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lens.chat import use_our_template
from lens.errors import BadBase

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Base:
    """A loaded base: transformers' model in evaluation mode, its tokenizer with our template, and a short name."""

    name: str
    model: Any
    tokenizer: Any
    device: str
    dtype: torch.dtype


def pick_device(device: str) -> str:
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return str(torch.empty(0, device=device).device)
    except (RuntimeError, AssertionError) as err:
        raise BadBase(f"device {device!r} is not available here; allowed: auto, cpu, cuda with a GPU") from err


def pick_dtype(dtype: str, device: str) -> torch.dtype:
    """float32 on CPU (bf16 is ruinous on some processors); on GPUs bf16 where they have it, else fp16."""
    if dtype != "auto":
        return DTYPES[dtype]
    if device == "cpu":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def load_base(base: str, device: str = "auto", dtype: str = "auto") -> Base:
    """Load; safetensors only, no code from the checkpoint. Raises BadBase."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    place = pick_device(device)
    kind = pick_dtype(dtype, place)
    local = Path(base).is_dir()
    if local:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        config = AutoConfig.from_pretrained(base)
        if config.model_type != "bloom":
            raise BadBase(f"base {base} is a {config.model_type!r} model; allowed: bloom")
        tokenizer = AutoTokenizer.from_pretrained(base)
        model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=kind, use_safetensors=True)
    except (OSError, ValueError) as err:
        if isinstance(err, BadBase):
            raise
        raise BadBase(f"base {base} cannot be loaded: {str(err).splitlines()[0]}; give a BLOOM model directory "
                      "or a hub name such as bigscience/bloom-1b1") from err
    use_our_template(tokenizer)
    return Base(Path(base).name if local else base, model.to(place).eval(), tokenizer, place, kind)
