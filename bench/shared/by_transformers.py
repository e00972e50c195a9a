"""What transformers and PEFT alone say, from the directories of a base and an adapter."""

from __future__ import annotations

from collections.abc import Iterable
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
