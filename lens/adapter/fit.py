"""Which linear layers an adapter may be on: those of the base it is for, any BLOOM's where no base is named, or any
decoder's where the model itself will be asked afterwards."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lens.base.linear_layers import LinearLayers, linear_layers_of

if TYPE_CHECKING:
    from lens.base.files import BaseFiles

LINEAR_LAYERS = ("query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h")  # BLOOM's
BLOOM, BLOOM_CLASS = "bloom", ("BloomForCausalLM", "transformers.models.bloom.modeling_bloom")
MODULE = re.compile(rf"transformer\.h\.(\d{{1,3}})\.(?:self_attention|mlp)\.({'|'.join(LINEAR_LAYERS)})")
ANY_MODULE = re.compile(r"(?:[A-Za-z_]\w{0,63}\.){1,5}(\d{1,4})(?:\.\w{1,64}){0,7}\.([A-Za-z_]\w{0,63})", re.ASCII)
OUTSIDE = ("embed", "lm_head", "wte", "wpe")  # in names of what is in no block


@dataclass(frozen=True)
class Fit:
    """What an adapter is judged against. `base`: its name, where one is known; `layers`: the base's own, None for a
    BLOOM's; `any_decoder`: every well-formed name will do."""

    base: str = ""
    layers: LinearLayers | None = None
    any_decoder: bool = False

    @classmethod
    def of(cls, base: BaseFiles | None) -> Fit:
        """Raises BadBase. A BLOOM's layers have the same names in all of them: no model is made for it."""
        if base is None:
            return cls()
        return cls(base.name, None if base.config.get("model_type") == BLOOM else linear_layers_of(base))

    @property
    def family(self) -> str:
        return self.layers.family if self.layers else BLOOM

    @property
    def names(self) -> tuple[str, ...]:
        """The short names that are allowed."""
        return self.layers.names if self.layers else LINEAR_LAYERS

    @property
    def kinds(self) -> dict[str, tuple[str, ...]]:
        """The short names of those in attention, and of all others."""
        return self.layers.kinds if self.layers else {"attention": LINEAR_LAYERS[:2], "mlp": LINEAR_LAYERS[2:]}

    @property
    def blocks(self) -> str:
        """What the list of blocks is called, such as `h`."""
        return next(iter(self.layers.by_name)).partition(".0.")[0].rpartition(".")[2] if self.layers else "h"

    @property
    def mapping(self) -> dict[str, str]:
        """How PEFT names the base's class."""
        found = (self.layers.model_class, self.layers.library) if self.layers else BLOOM_CLASS
        return dict(zip(("base_model_class", "parent_library"), found, strict=True))

    def place(self, module: str) -> tuple[int, str] | None:
        """The block's number and the short name of a module; None for what is none of these layers."""
        if self.layers:
            at = self.layers.by_name.get(module)
            return (at.layer, at.short) if at else None
        found = (ANY_MODULE if self.any_decoder else MODULE).fullmatch(module)
        return (int(found[1]), found[2]) if found else None

    def allows(self, target: str) -> bool:
        """May one of `target_modules` be called so? Only its last part is looked at."""
        last = target.rpartition(".")[2]
        if self.any_decoder:
            return not outside(target)
        return last in {name.rpartition(".")[2] for name in self.names}


def outside(target: str) -> bool:
    """Does a name mean an embedding or the head?"""
    return any(word in target for word in OUTSIDE)
