"""ΔW = s·BA of one linear layer, from A and B alone: the full product (out × in) is never formed.

QR of the tall factors, then the SVD of an r × r matrix (float64): with Aᵀ = Q_A R_A and B = Q_B R_B,
ΔW = Q_B (s·R_B R_Aᵀ) Q_Aᵀ, and the middle one has ΔW's singular values. What two updates have in common is then small
products of their singular vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

SMALLEST = 1e-7  # of the largest singular value: what is below it is rounding, as the files are float32 at best
STRIP = 128  # columns of a product that are computed at once


@dataclass(frozen=True)
class Update:
    """ΔW as left (out, k) · diag(values) · right (in, k)ᵀ, float64, `values` descending; k is its numerical rank."""

    left: Tensor
    values: Tensor
    right: Tensor

    @classmethod
    def of(cls, a: Tensor, b: Tensor, scaling: float) -> Update:
        """A (r, in), B (out, r)."""
        right, r_a = torch.linalg.qr(a.double().T)
        left, r_b = torch.linalg.qr(b.double())
        u, values, vh = torch.linalg.svd(scaling * r_b @ r_a.T)
        kept = int((values > SMALLEST * values[0]).sum())
        return cls(left @ u[:, :kept], values[:kept], right @ vh.T[:, :kept])

    @property
    def norm(self) -> float:
        """Frobenius."""
        return float(torch.linalg.vector_norm(self.values))

    @property
    def effective_rank(self) -> float:
        """exp of the entropy of the singular values' shares (Roy and Vetterli, 2007): k where all are equal, near 1
        where one outweighs the others; 0 where there is none."""
        shares = self.values / self.values.sum()
        return float(torch.special.entr(shares).sum().exp()) if len(shares) else 0.0


@dataclass(frozen=True)
class Relation:
    """Each of n updates of one layer with each: (n, n) float64.

    `inner`: ⟨ΔW_i, ΔW_j⟩ = tr(ΔW_iᵀ ΔW_j). `inputs`, `outputs`: how much of the smaller subspace lies in the other, of
    what they read (right vectors) and write (left vectors): the mean squared cosine of the principal angles,
    ‖V_iᵀ V_j‖²_F / min(k_i, k_j) (Hu et al., 2021, equation 4), 0 to 1. `chance_inputs`, `chance_outputs`: what random
    subspaces of these sizes have on average, max(k_i, k_j) / features. NaN where an update is zero.
    """

    inner: Tensor
    inputs: Tensor
    outputs: Tensor
    chance_inputs: Tensor
    chance_outputs: Tensor

    @classmethod
    def of(cls, updates: Sequence[Update]) -> Relation:
        sizes = torch.tensor([len(update.values) for update in updates])
        member = torch.eye(len(updates), dtype=torch.float64).repeat_interleave(sizes, 0)  # (all k, n)
        values = torch.cat([update.values for update in updates])
        right, left = (torch.cat([getattr(update, side) for update in updates], 1) for side in ("right", "left"))
        read, written = gram(right), gram(left)
        smaller = torch.minimum(sizes[:, None], sizes).double()
        larger = torch.maximum(sizes[:, None], sizes).double().where(smaller > 0, torch.nan)
        inner = member.T @ (values[:, None] * read * written * values) @ member
        inputs, outputs = (member.T @ cosines.square() @ member / smaller for cosines in (read, written))
        return cls(inner, inputs, outputs, larger / right.shape[0], larger / left.shape[0])


def gram(x: Tensor) -> Tensor:
    """xᵀx of (features, k), (k, k): what is above the diagonal computed, the rest mirrored."""
    found = x.new_empty((x.shape[1], x.shape[1]))
    for start in range(0, x.shape[1], STRIP):
        found[start:start + STRIP, start:] = x[:, start:start + STRIP].T @ x[:, start:]
    return found.triu() + found.triu(1).T
