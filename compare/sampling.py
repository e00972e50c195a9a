"""The next token of every row, with the same luck for all: rows differ only where the models do.

Gumbel-max: argmax(log p + g) with one noise vector g a step, shared by all rows, draws from p.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from compare.errors import BadQuestion


@dataclass(frozen=True)
class Sampling:
    """How to choose tokens. Temperature 0 is greedy; then `top_p` and `seed` do nothing.

    `repetition_penalty` is 1 (off) unless asked for: it hides the loops that a base falls into.
    """

    max_new_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    repetition_penalty: float = 1.0
    stop_at_loop: bool = False

    def __post_init__(self) -> None:
        limits = {"max_new_tokens": (1, 4096), "temperature": (0, 10), "top_p": (0.01, 1), "seed": (0, 2**63 - 1),
                  "repetition_penalty": (0.1, 10)}
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise BadQuestion(f"{name} is {value}; allowed: {low} to {high}")

    @property
    def prefix_ids(self) -> tuple[int, ...]:
        """The ids that an answer is to begin with: none, unless it is a Continuation."""
        return ()

    @property
    def plain(self) -> bool:
        """Greedy and without a penalty: the largest logit wins."""
        return self.temperature == 0 and self.repetition_penalty == 1


@dataclass(frozen=True)
class Continuation(Sampling):
    """Of answers that begin with these ids, as if each column had chosen them itself.

    They count towards `max_new_tokens`, and the luck of their steps is spent: forced with its own ids, an answer
    goes on as it did.
    """

    prefix_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.prefix_ids) >= self.max_new_tokens:
            raise BadQuestion(f"the answer is to begin with {len(self.prefix_ids)} tokens; allowed: fewer than "
                              f"max_new_tokens, which is {self.max_new_tokens}")


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
    """Chooses one question's tokens, step after step, repeatably from its seed."""

    def __init__(self, sampling: Sampling):
        self.sampling = sampling
        self.luck, self.unspent = torch.Generator().manual_seed(sampling.seed), len(sampling.prefix_ids)

    def choose(self, logits: Tensor, history: Sequence[Sequence[int]] = ()) -> Tensor:
        """(rows, vocabulary) float32 logits → (rows,) ids. `history`: each row's ids, for the penalty."""
        s = self.sampling
        if s.repetition_penalty != 1:
            logits = penalised(logits, history, s.repetition_penalty)
        if s.temperature == 0:
            return logits.argmax(-1)
        logits = logits / s.temperature
        if s.top_p < 1:
            logits = nucleus(logits, s.top_p)
        uniform = self.uniform(logits.shape[-1]).clamp_(1e-10, 1 - 1e-7)
        return (logits - (-uniform.log()).log().to(logits.device)).argmax(-1)

    def uniform(self, vocabulary: int) -> Tensor:
        """(vocabulary,) of this step, from 0 to 1; the steps of ids that were given come first."""
        while self.unspent:
            torch.rand(vocabulary, generator=self.luck)
            self.unspent -= 1
        return torch.rand(vocabulary, generator=self.luck)
