"""Which adapter, how strongly, on which row: all adapters' A and B side by side, and a gate on each row's ranks.

N adapters cost two products, not 2N: their A are stacked along the rank axis, their B likewise, and a
row's gate holds strength × scaling on the ranks of its own adapter and zero on all others. Base is the
row whose gate is all zeros. (S-LoRA and Punica gather weights by row instead; at our ranks a gate is simpler.)
Where a gate is zero the ranks are masked, not multiplied: 0 × inf is NaN, and an adapter that overflows must
not reach the base row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Variant:
    """What a column shows: the adapter (None: base) at a strength, under a name."""

    name: str
    adapter: str | None = None
    strength: float = 0.0


BASE = Variant("base")


@dataclass(frozen=True)
class Stack:
    """A few adapters' weights, rank by rank: per (layer, module) A (in, ranks) and B (ranks, out)."""

    weights: dict[tuple[int, str], tuple[Tensor, Tensor]]
    ranks: list[tuple[str, int]]  # adapter name and its rank, in stacking order
    scaling: dict[str, float]

    def gate(self, variants: Sequence[Variant]) -> Gate:
        """The gate of rows that show these variants."""
        rows = [[v.strength * self.scaling[name] if v.adapter == name else 0.0
                 for name, rank in self.ranks for _ in range(rank)] for v in variants]
        device = next(iter(self.weights.values()))[0].device
        scale = torch.tensor(rows, device=device)[:, None]
        return Gate(self, scale, scale == 0)


@dataclass(frozen=True)
class Gate:
    """How much of each rank each row gets: `scale` (rows, 1, ranks) float32, `off` where it is zero."""

    stack: Stack
    scale: Tensor
    off: Tensor

    def add(self, out: Tensor, x: Tensor, layer: int, module: str) -> Tensor:
        """`out` (rows, length, out) plus each row's own update of the layer's input `x`, in float32."""
        if (layer, module) not in self.stack.weights:
            return out
        a, b = self.stack.weights[layer, module]
        low = ((x.to(a.dtype) @ a) * self.scale).masked_fill_(self.off, 0.0)
        return out + (low @ b).to(out.dtype)


def stack(model, names: Sequence[str]) -> Stack:
    """The named adapters of a PeftModel over BLOOM, stacked; float32 on the model's device."""
    from compare.bloom import MODULES, linear_of

    weights, scaling, rank = {}, {}, {}
    blocks = model.get_base_model().transformer.h
    for block in blocks:
        for module in MODULES:
            layer = linear_of(block, module)
            for name in names:
                if name in getattr(layer, "lora_A", {}):
                    rank[name], scaling[name] = layer.lora_A[name].weight.shape[0], layer.scaling[name]
    for i, block in enumerate(blocks):
        for module in MODULES:
            layer = linear_of(block, module)
            if not any(name in getattr(layer, "lora_A", {}) for name in names):
                continue
            parts_a, parts_b = [], []
            for name in names:
                if name in layer.lora_A:
                    parts_a.append(layer.lora_A[name].weight.T.float())
                    parts_b.append(layer.lora_B[name].weight.T.float())
                else:
                    like = layer.base_layer.weight
                    parts_a.append(like.new_zeros((like.shape[1], rank[name]), dtype=torch.float32))
                    parts_b.append(like.new_zeros((rank[name], like.shape[0]), dtype=torch.float32))
            weights[i, module] = torch.cat(parts_a, 1).contiguous(), torch.cat(parts_b, 0).contiguous()
    return Stack(weights, [(name, rank[name]) for name in names], scaling)
