"""A random BLOOM beside the embedded tokenizer, and adapters: speed, memory and kills do not depend on knowledge."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from lens.embedded import EMBEDDED_BASE

WIDE = {"vocab_size": 250_880, "hidden_size": 512, "n_layer": 8, "n_head": 8, "initializer_range": 0.1}


def write_random_base(path: Path, **shape: float):
    """Write a base of this shape (BloomConfig's words) into `path`; returns the BloomForCausalLM. Same seed always."""
    import torch
    from transformers import BloomConfig, BloomForCausalLM

    torch.manual_seed(0)
    model = BloomForCausalLM(BloomConfig(bos_token_id=1, eos_token_id=2, pad_token_id=3, **shape))
    model.save_pretrained(path)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(Path(EMBEDDED_BASE) / name, path)
    return model


def random_pair(folder: Path, adapters: int, layers: Sequence[str] = ("query_key_value",),
                **shape: float) -> tuple[str, list[str]]:
    """A random BLOOM, wide unless another shape is asked for, with the embedded tokenizer, and adapters for it on these
    linear layers, in `folder`."""
    from peft import LoraConfig, get_peft_model

    model = write_random_base(folder / "base", **(shape or WIDE))
    lora = LoraConfig(task_type="CAUSAL_LM", r=8, lora_alpha=8, target_modules=list(layers),
                      init_lora_weights=False)
    get_peft_model(model, lora).save_pretrained(folder / "adapter0", save_embedding_layers=False)
    return str(folder / "base"), copies(folder / "adapter0", folder, adapters)


def copies(adapter: Path, folder: Path, count: int) -> list[str]:
    """`count` directories of the same adapter, each of another name, as checkpoints of one run would be."""
    found = []
    for i in range(count):
        to = folder / f"step{i}"
        to.mkdir()
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            shutil.copy(adapter / name, to)
        found.append(str(to))
    return found
