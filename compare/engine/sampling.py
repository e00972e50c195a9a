"""The next token of every row, with the same random draws for all: rows differ only where the models do.

Gumbel-max: argmax(log p + g) with one noise vector g a step, shared by all rows, draws from p.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from compare.engine.question import Sampling

COLDEST = 1e-4  # temperature; below it logits would leave float32, and the largest wins anyway


def nucleus(logits: Tensor, top_p: float) -> Tensor:
    """Logits (rows, vocabulary) with all outside the smallest set of mass `top_p` at -inf.

    Source: Holtzman et al., "The Curious Case of Neural Text Degeneration" (2019).
    """
    ordered, index = logits.sort(dim=-1, descending=True)
    before = ordered.softmax(-1).cumsum(-1) - ordered.softmax(-1)
    return logits.scatter(-1, index, ordered.masked_fill(before >= top_p, float("-inf")))


def penalised(logits: Tensor, history: Sequence[Sequence[int]], penalty: float) -> Tensor:
    """Logits with every id of each row's history made less likely.

    Source: Keskar et al., "CTRL" (2019): positive logits are divided, negative ones multiplied.
    """
    logits = logits.clone()
    for row, seen in zip(logits, history, strict=True):
        ids = torch.tensor(sorted(set(seen)), device=logits.device)
        row[ids] = torch.where(row[ids] > 0, row[ids] / penalty, row[ids] * penalty)
    return logits


class Chooser:
    """Chooses one question's tokens, step after step, repeatably from its seed. `spent`: steps that came before."""

    def __init__(self, sampling: Sampling, spent: int = 0):
        self.sampling, self.unspent = sampling, spent
        self.random = torch.Generator().manual_seed(sampling.seed)

    def choose(self, logits: Tensor, history: Sequence[Sequence[int]] = ()) -> Tensor:
        """(rows, vocabulary) float32 logits → (rows,) ids. `history`: each row's ids, for the penalty."""
        s = self.sampling
        if s.repetition_penalty != 1:
            logits = penalised(logits, history, s.repetition_penalty)
        if s.temperature == 0:
            return logits.argmax(-1)
        logits = logits / max(s.temperature, COLDEST)
        if s.top_p < 1:
            logits = nucleus(logits, s.top_p)
        uniform = self.uniform(logits.shape[-1]).clamp_(1e-10, 1 - 1e-7)
        return (logits - (-uniform.log()).log().to(logits.device)).argmax(-1)

    def uniform(self, vocabulary: int) -> Tensor:
        """(vocabulary,) of this step, from 0 to 1; the steps of ids that were given come first."""
        while self.unspent:
            torch.rand(vocabulary, generator=self.random)
            self.unspent -= 1
        return torch.rand(vocabulary, generator=self.random)
