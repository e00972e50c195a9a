"""The next token of every row, with the same luck for all: rows differ only where the models do.

Gumbel-max: argmax(log p + g) with one noise vector g a step, shared by all rows, draws from p.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from compare.errors import BadQuestion


@dataclass(frozen=True)
class Sampling:
    """How to choose tokens. Temperature 0 is greedy; then `top_p` and `seed` do nothing."""

    max_new_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        limits = {"max_new_tokens": (1, 4096), "temperature": (0, 10), "top_p": (0.01, 1), "seed": (0, 2**63 - 1)}
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise BadQuestion(f"{name} is {value}; allowed: {low} to {high}")


def nucleus(logits: Tensor, top_p: float) -> Tensor:
    """Logits (rows, vocabulary) with all outside the smallest set of mass `top_p` at -inf.

    Source: Holtzman et al., "The Curious Case of Neural Text Degeneration" (2019).
    """
    ordered, index = logits.sort(dim=-1, descending=True)
    before = ordered.softmax(-1).cumsum(-1) - ordered.softmax(-1)
    return logits.scatter(-1, index, ordered.masked_fill(before >= top_p, float("-inf")))


class Chooser:
    """Chooses one question's tokens, step after step, repeatably from its seed."""

    def __init__(self, sampling: Sampling):
        self.sampling = sampling
        self.luck = torch.Generator().manual_seed(sampling.seed)

    def choose(self, logits: Tensor) -> Tensor:
        """(rows, vocabulary) float32 logits → (rows,) ids."""
        if self.sampling.temperature == 0:
            return logits.argmax(-1)
        logits = logits / self.sampling.temperature
        if self.sampling.top_p < 1:
            logits = nucleus(logits, self.sampling.top_p)
        uniform = torch.rand(logits.shape[-1], generator=self.luck).clamp_(1e-10, 1 - 1e-7)
        return (logits - (-uniform.log()).log().to(logits.device)).argmax(-1)
