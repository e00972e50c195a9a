"""Which adapter, how strongly, on which row: all adapters' A and B side by side, and a gate on each row's ranks.

N adapters cost two products, not 2N: their A are stacked along the rank axis, their B likewise, and a
row's gate holds strength × scaling on the ranks of its own adapter and zero on all others. Base is the
row whose gate is all zeros. (S-LoRA and Punica gather weights by row instead; at our ranks a gate is simpler.)
Where a gate is zero the ranks are masked, not multiplied: 0 × inf is NaN, and an adapter that overflows must
not reach the base row. A row whose variant is on in some layers or modules alone has a mask for each of them; where
no row asks for that, nothing of it is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from compare.engine.interface import Variant
from lens.adapter.directory import peft_key
from lens.base.linear_layers import kinds, linear_layers
from lens.errors import BadAdapter

FEW = 64  # ranks of all adapters and modules; up to here zeros beside each B cost less than a product for each


@dataclass(frozen=True)
class Stack:
    """A few adapters' weights, rank by rank: per (layer, module) A (in, ranks) and B (ranks, out). `joined`: those of
    modules that read the same input, made when they are first used."""

    weights: dict[tuple[int, str], tuple[Tensor, Tensor]]
    ranks: list[tuple[str, int]]  # adapter name and its rank, in stacking order
    scaling: dict[str, float]
    kinds: dict[str, str]  # a linear layer's name → attention or mlp
    joined: dict[tuple[int, tuple[str, ...]], tuple[Tensor, Tensor]] = field(default_factory=dict)

    def gate(self, variants: Sequence[Variant]) -> Gate:
        """The gate of rows that show these variants."""
        rows = [[v.strength * self.scaling[name] if v.adapter == name else 0.0
                 for name, rank in self.ranks for _ in range(rank)] for v in variants]
        device = next(iter(self.weights.values()))[0].device
        scale = torch.tensor(rows, device=device)[:, None]
        if not any(v.part for v in variants):
            return Gate(self, scale, scale == 0)
        on = {place: tuple(v.is_on(*place, self.kinds[place[1]]) for v in variants) for place in self.weights}
        off = {which: (scale == 0) | ~torch.tensor(which, device=device)[:, None, None] for which in set(on.values())}
        return Gate(self, scale, scale == 0, {place: off[which] for place, which in on.items()})

    def side_by_side(self, layer: int, widths: Mapping[str, int]) -> tuple[Tensor, Tensor]:
        """A (in, modules' ranks) and B (modules' ranks, all widths) of those of these modules that have any: A side by
        side, B one below the other, each where its module's outputs are."""
        key = layer, tuple(widths)
        if key not in self.joined:
            pairs = {name: self.weights[layer, name] for name in widths if (layer, name) in self.weights}
            ends = dict(zip(widths, accumulate(widths.values()), strict=True))
            below = [F.pad(b, (ends[name] - widths[name], sum(widths.values()) - ends[name]))
                     for name, (_, b) in pairs.items()]
            self.joined[key] = torch.cat([a for a, _ in pairs.values()], 1), torch.cat(below)
        return self.joined[key]


@dataclass(frozen=True)
class Gate:
    """How much of each rank each row gets: `scale` (rows, 1, ranks) float32, `off` where it is zero.

    `off_at`: (layer, module) → what `off` is there, where rows differ in that; None where they do not.
    """

    stack: Stack
    scale: Tensor
    off: Tensor
    off_at: Mapping[tuple[int, str], Tensor] | None = None

    def row(self, i: int) -> Gate:
        """Of one row alone."""
        at = self.off_at and {place: off[i:i + 1] for place, off in self.off_at.items()}
        return Gate(self.stack, self.scale[i:i + 1], self.off[i:i + 1], at)

    def add(self, out: Tensor, x: Tensor, layer: int, module: str) -> Tensor:
        """`out` (rows, length, out) plus each row's own update of the layer's input `x`, in float32."""
        if (layer, module) not in self.stack.weights:
            return out
        a, b = self.stack.weights[layer, module]
        off = self.off_at[layer, module] if self.off_at else self.off
        low = ((x.to(a.dtype) @ a) * self.scale).masked_fill_(off, 0.0)
        return out + (low @ b).to(out.dtype)

    def add_to_each(self, out: Tensor, x: Tensor, layer: int, widths: Mapping[str, int]) -> Sequence[Tensor]:
        """`add` for modules that read the same `x`, whose outputs, of these widths, stand side by side in `out`; each
        module's own."""
        on, ranks = [name for name in widths if (layer, name) in self.stack.weights], self.scale.shape[-1]
        if on and len(on) * ranks <= FEW:
            a, b = self.stack.side_by_side(layer, widths)
            off = torch.stack([self.off_at[layer, name] for name in on], 2) if self.off_at else self.off[:, :, None]
            low = (x.to(a.dtype) @ a).unflatten(-1, (len(on), ranks)) * self.scale[:, :, None]
            return (out + (low.masked_fill_(off, 0.0).flatten(-2) @ b).to(out.dtype)).split(list(widths.values()), -1)
        parts = zip(out.split(list(widths.values()), -1), widths, strict=True)
        return [self.add(part, x, layer, name) for part, name in parts]


def gate_of(variants: Sequence[Variant], stack_of: Callable[[tuple[str, ...]], Stack]) -> Gate | None:
    """The gate of rows that show these variants; None where all are base. `stack_of(names)`: their adapters."""
    names = tuple(sorted({v.adapter for v in variants if v.adapter}))
    return stack_of(names).gate(variants) if names else None


def stack(model, names: Sequence[str]) -> Stack:
    """The named adapters of a PeftModel, stacked; float32 on the model's device.

    An adapter may have another rank or scaling in each layer: all get the room of its largest rank, and its first
    layer's scaling, the others' difference from that folded into their B. Raises BadAdapter for one on another layer.
    """
    keys = {name: peft_key(name) for name in names}
    layers: dict[tuple[int, str], Any] = {at: layer for at, layer in linear_layers(model).items()
                                          if any(key in getattr(layer, "lora_A", {}) for key in keys.values())}
    for name, key in keys.items():
        if odd := [path for path, x in model.named_modules() if key in getattr(x, "lora_A", {}) and (
                "experts" in path.split(".") or not any(x is known for known in layers.values()))]:
            raise BadAdapter("adapter-layer-not-by-rows", adapter=name[:80], module=odd[0])
    having = {name: [x for x in layers.values() if key in x.lora_A] for name, key in keys.items()}
    ranks = [(name, max((x.r[keys[name]] for x in having[name]), default=0)) for name in names]
    scaling = {name: having[name][0].scaling[keys[name]] for name in names if having[name]}
    weights = {}
    for place, layer in layers.items():
        a, b = zip(*(matrices(layer, keys[name], rank, scaling.get(name, 1.0)) for name, rank in ranks), strict=True)
        weights[place] = torch.cat(a, 1).contiguous(), torch.cat(b, 0).contiguous()
    return Stack(weights, ranks, scaling, {name: kind for kind, names in kinds(model).items() for name in names})


def matrices(layer, key: str, rank: int, scaling: float) -> tuple[Tensor, Tensor]:
    """One adapter's A (in, rank) and B (rank, out) in a LoRA layer; zeros beyond its own rank there."""
    out, wide = layer.out_features, layer.in_features
    device = layer.base_layer.weight.device
    a, b = torch.zeros((wide, rank), device=device), torch.zeros((rank, out), device=device)
    if key in layer.lora_A:
        own = layer.r[key]
        a[:, :own] = layer.lora_A[key].weight.T
        b[:own] = layer.lora_B[key].weight.T
        if layer.scaling[key] != scaling:
            b *= layer.scaling[key] / scaling
    return a, b
