"""The two optimizers of pretraining and their rate.

Muon: momentum whose matrix update is made orthogonal by a Newton-Schulz iteration.

Source: Keller Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024).
torch.optim.Muon iterates in bfloat16, which on processors without fast bf16 makes a step six
times as long; this one iterates in float32. For 2-D weights of hidden layers only: embeddings,
norms and biases belong to AdamW.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.optim import Optimizer

if TYPE_CHECKING:
    from train.pretrain import PretrainSettings

NS_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # the quintic of the source, tuned for slope at zero
NS_STEPS = 5


def orthogonalized(matrix: Tensor) -> Tensor:
    """The matrix (m, n) with its singular values driven to about 1, in float32."""
    a, b, c = NS_COEFFICIENTS
    x = matrix.float()
    tall = x.shape[0] > x.shape[1]
    if tall:
        x = x.T
    x = x / (x.norm() + 1e-7)
    for _ in range(NS_STEPS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if tall else x


class Muon(Optimizer):
    """Nesterov momentum, orthogonalised; the step is scaled by sqrt(max(1, rows / columns))."""

    def __init__(self, params, lr: float = 0.02, momentum: float = 0.95, weight_decay: float = 0.0):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["momentum"] = torch.zeros_like(p)
                buffer = state["momentum"].lerp_(p.grad, 1 - group["momentum"])
                update = orthogonalized(p.grad.lerp(buffer, group["momentum"]))
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(update.to(p.dtype), alpha=-group["lr"] * max(1.0, p.shape[0] / p.shape[1]) ** 0.5)


def rate(step: int, s: PretrainSettings) -> float:
    """Share of the peak rate at a step: warm up, stay, fall linearly to 2%."""
    decay_from = s.max_steps * (1 - s.decay_share)
    if step < s.warmup_steps:
        return (step + 1) / s.warmup_steps
    if step < decay_from:
        return 1.0
    return 1.0 - 0.98 * (step - decay_from) / max(1.0, s.max_steps - decay_from)


def optimizers(model, s: PretrainSettings) -> list:
    """Muon for the matrices of hidden layers, AdamW for all else."""
    hidden = [p for n, p in model.named_parameters() if p.ndim == 2 and "word_embeddings.weight" not in n]
    rest = [p for n, p in model.named_parameters() if p.ndim != 2 or "word_embeddings.weight" in n]
    return [Muon(hidden, lr=s.muon_lr, weight_decay=s.weight_decay),
            torch.optim.AdamW(rest, lr=s.adam_lr, betas=(0.9, 0.95), weight_decay=s.weight_decay)]
