"""Both answers as they are made without this project: generate() with the adapter off, then on."""

from __future__ import annotations

from contextlib import nullcontext

import torch


def toggled(model, prompt: list[int], max_new_tokens: int, min_new_tokens: int = 0) -> list[list[int]]:
    """The greedy ids of base and adapted, `</s>` and what follows it included. `model`: PEFT's, over a BLOOM.

    With keys and values kept, as published BLOOMs do by default, whatever the base's generation_config.json says.
    """
    ids, answers = torch.tensor([prompt], device=model.device), []
    for off in (True, False):
        with torch.inference_mode(), model.disable_adapter() if off else nullcontext():
            made = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False,
                                  max_new_tokens=max_new_tokens, min_new_tokens=min_new_tokens, use_cache=True)
        answers.append(made[0, ids.shape[1]:].tolist())
    return answers
