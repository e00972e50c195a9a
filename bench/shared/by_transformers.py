"""What transformers and PEFT alone say: the answers that ours are held against."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch


def plain(base: Path) -> Any:
    """A base in float32."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()


def adapted(base: Path, adapter: Path) -> Any:
    from peft import PeftModel

    return PeftModel.from_pretrained(plain(base), adapter).eval()


def generated(model: Any, prompt: Iterable[int], tokens: int, more_ends: Iterable[int] = ()) -> list[int]:
    """The greedy answer, without what ended it. `more_ends`: ids that end one beside those of generation_config."""
    ids = torch.tensor([list(prompt)], device=model.device)
    ends = model.generation_config.eos_token_id
    ends = sorted({*(ends if isinstance(ends, list) else [] if ends is None else [ends]), *more_ends})
    with torch.inference_mode():
        found = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False,
                               max_new_tokens=tokens, eos_token_id=ends, pad_token_id=ends[0])
    answer: list[int] = found[0, ids.shape[1]:].tolist()
    return answer[:-1] if answer and answer[-1] in ends else answer


def toggled(model, prompt: list[int], max_new_tokens: int, min_new_tokens: int = 0,
            sides: Sequence[bool] = (True, False)) -> list[list[int]]:
    """The greedy ids of base and adapted, what ends them and follows it included. `model`: PEFT's. `sides`: is the
    adapter off?

    With keys and values kept, as published BLOOMs do by default, whatever the base's generation_config.json says.
    """
    ids, answers = torch.tensor([prompt], device=model.device), []
    for off in sides:
        with torch.inference_mode(), model.disable_adapter() if off else nullcontext():
            made = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False,
                                  max_new_tokens=max_new_tokens, min_new_tokens=min_new_tokens, use_cache=True)
        answers.append(made[0, ids.shape[1]:].tolist())
    return answers
