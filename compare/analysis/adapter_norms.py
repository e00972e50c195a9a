"""Where in a model an adapter sits: how large its update is beside the weights it changes.

‖s·BA‖_F / ‖W‖_F for every adapted linear layer, and in BLOOM's fused query_key_value for each head's q, k and v.
BA is never formed: ‖BA‖² = tr((BᵀB)(AAᵀ)), two r×r matrices, in float64. Torch is loaded where it is measured, not
where the result is shown.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lens.adapter.directory import peft_key
from lens.base.linear_layers import linear_layers, unwrapped
from lens.errors import BadAdapter

if TYPE_CHECKING:
    from torch import Tensor

PARTS = ("q", "k", "v")


@dataclass(frozen=True)
class Size:
    """Frobenius norms of an update, strength 1, and of the base's weights that it is added to."""

    update: float
    weight: float

    @property
    def ratio(self) -> float | None:
        """None where the base's weights are all zero."""
        return self.update / self.weight if self.weight else None

    def as_dict(self) -> dict:
        return {"update": self.update, "weight": self.weight, "ratio": self.ratio}


@dataclass(frozen=True)
class Site:
    """One adapted linear layer. `module`: its short name, as in the engine's facts; `heads`, for query_key_value alone:
    a {"q", "k", "v"} of sizes a head, in order; `parts`: the same of all heads together."""

    layer: int
    module: str
    whole: Size
    parts: dict[str, Size]
    heads: tuple[dict[str, Size], ...]

    def as_dict(self) -> dict:
        named = lambda sizes: {name: size.as_dict() for name, size in sizes.items()}  # noqa: E731
        return {"layer": self.layer, "module": self.module, **self.whole.as_dict(),
                "parts": named(self.parts), "heads": [named(head) for head in self.heads]}


@dataclass(frozen=True)
class Anatomy:
    """An adapter's sites, by layer and then in the order of the model; `whole`: of all of them together."""

    adapter: str
    whole: Size
    sites: tuple[Site, ...]

    def as_dict(self) -> dict:
        return {"adapter": self.adapter, **self.whole.as_dict(), "sites": [site.as_dict() for site in self.sites]}


def anatomy(model, adapter_name: str) -> Anatomy:
    """Measure one adapter of a PeftModel. Raises BadAdapter where the model has none of that name."""
    config = unwrapped(model).config
    # BLOOM's fused rows are (heads, 3, head size), as its forward views them; any other layer is one block.
    heads = config.num_attention_heads if config.model_type == "bloom" else 0
    key = peft_key(adapter_name)
    found = {at: layer for at, layer in linear_layers(model).items() if key in getattr(layer, "lora_A", {})}
    if not found:
        raise BadAdapter("adapter-not-on-model", adapter=repr(adapter_name[:80]))
    sites = tuple(measure(*at, layer, key, heads) for at, layer in found.items())
    return Anatomy(adapter_name, together([site.whole for site in sites]), sites)


def measure(number: int, module: str, layer, adapter: str, n_head: int) -> Site:
    """A LoRA layer, which stands in the block of that number under that short name."""
    import torch

    a, b = (side[adapter].weight.detach().double() for side in (layer.lora_A, layer.lora_B))
    weight = layer.get_base_layer().weight.detach()
    weight = weight if len(weight) == len(b) else weight.T  # GPT-2's lies the other way round
    fused = n_head > 0 and module == "query_key_value"
    blocks = (n_head, 3) if fused else (1, 1)
    update = scaling(layer, adapter) * update_norms(a, b, blocks)
    base = torch.linalg.vector_norm(weight.unflatten(0, (*blocks, -1)), dim=(-2, -1), dtype=torch.float32)
    sizes = [[Size(u, w) for u, w in zip(*row, strict=True)]
             for row in zip(update.tolist(), base.tolist(), strict=True)]
    whole = together([size for head in sizes for size in head])
    if not fused:
        return Site(number, module, whole, {}, ())
    heads = tuple(dict(zip(PARTS, head, strict=True)) for head in sizes)
    return Site(number, module, whole, {part: together([head[part] for head in heads]) for part in PARTS}, heads)


def update_norms(a: Tensor, b: Tensor, blocks: tuple[int, int]) -> Tensor:
    """A (r, in), B (out, r) → ‖BA‖_F of each block of B's rows; `blocks` (heads, parts), as the result."""
    b = b.unflatten(0, (*blocks, -1))
    squares = ((b.mT @ b) * (a @ a.T)).sum((-2, -1))
    return squares.clamp_min(0).sqrt()  # rounding may fall below 0


def scaling(layer, adapter: str) -> float:
    """alpha/r, or alpha/√r for rsLoRA (Kalajdzievski 2023): from the settings, as the layer's own number may
    hold a strength or be a tensor of them."""
    r = layer.r[adapter]
    return layer.lora_alpha[adapter] / (math.sqrt(r) if layer.use_rslora.get(adapter) else r)


def together(sizes: list[Size]) -> Size:
    """The norms of matrices that lie side by side: squares add up."""
    return Size(math.hypot(*(s.update for s in sizes)), math.hypot(*(s.weight for s in sizes)))
