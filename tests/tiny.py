"""Adapters for the tiny BLOOM of conftest.py, random and strong enough to change its answers."""

from __future__ import annotations

from pathlib import Path

import torch
from conftest import tiny_bloom


def tiny_adapter(folder: Path, seed: int = 1, r: int = 4) -> str:
    """An adapter directory as PEFT writes it."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    config = LoraConfig(task_type="CAUSAL_LM", r=r, lora_alpha=r, target_modules=["query_key_value", "dense"],
                        init_lora_weights=False)
    model = get_peft_model(tiny_bloom(), config)
    torch.manual_seed(seed)
    for name, weight in model.named_parameters():
        if ".lora_" in name:
            torch.nn.init.normal_(weight, std=0.3)
    model.save_pretrained(folder, save_embedding_layers=False)
    return str(folder)
