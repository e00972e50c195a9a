"""A random BLOOM beside the embedded tokenizer: speed, memory and kills do not depend on what a model knows."""

from __future__ import annotations

import shutil
from pathlib import Path

from lens.embedded import EMBEDDED_BASE


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
