"""The linear layers of a decoder's blocks, whatever its family: what LoRA may be put on, by layer and by name.

A layer's short name is the shortest end of its name that no other of its block has: `q_proj`, or `attn.c_proj` where
there is an `mlp.c_proj` too. BLOOM's are query_key_value, dense, dense_h_to_4h and dense_4h_to_h, in this order.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lens.errors import BadBase, first_line

if TYPE_CHECKING:  # it brings torch
    from torch import nn

    from lens.base.files import BaseFiles

ATTENTION = ("attn", "attention")  # one of these is in the name of the module around an attention's linear layers


@dataclass(frozen=True)
class LinearLayer:
    """Where a linear layer stands: its name within the model, its block's number, its short name, its features."""

    name: str
    layer: int
    short: str
    in_features: int
    out_features: int
    attention: bool


@dataclass(frozen=True)
class LinearKind:
    """All linear layers of one short name. `in_features`, `out_features`: of the first; `widths`: both summed over all
    of them, which is how many values LoRA has on them for each rank."""

    in_features: int
    out_features: int
    widths: int
    attention: bool


@dataclass(frozen=True)
class LinearLayers:
    """All of a model, by their names within it. `family`: its config's model_type; `model_class`, `library`: of
    transformers' class for it."""

    family: str
    model_class: str
    library: str
    by_name: Mapping[str, LinearLayer]

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The short names, in the order in which a block has them."""
        return tuple(dict.fromkeys(layer.short for layer in self.by_name.values()))

    @cached_property
    def sizes(self) -> dict[str, LinearKind]:
        """Short name → its layers' sizes, in the order of `names`."""
        found: dict[str, LinearKind] = {}
        for at in self.by_name.values():
            first = found.get(at.short) or LinearKind(at.in_features, at.out_features, 0, at.attention)
            found[at.short] = replace(first, widths=first.widths + at.in_features + at.out_features)
        return found

    @cached_property
    def kinds(self) -> dict[str, tuple[str, ...]]:
        """The short names of those in attention, and of all others."""
        inside = {layer.short for layer in self.by_name.values() if layer.attention}
        return {"attention": tuple(name for name in self.names if name in inside),
                "mlp": tuple(name for name in self.names if name not in inside)}


def unwrapped(model: Any) -> Any:
    """transformers' model, whether PEFT is around it or not."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def linear_layers(model: Any) -> dict[tuple[int, str], nn.Module]:
    """(block's number, short name) → its linear layer, PEFT's wrapper where there is one."""
    return {(at.layer, at.short): layer for at, layer in walk(model)}


def layers_by_name(model: Any) -> dict[str, Any]:
    """Whole name within transformers' model, as adapters have it → the linear layer or PEFT's wrapper."""
    return {at.name: layer for at, layer in walk(model)}


def kinds(model: Any) -> dict[str, tuple[str, ...]]:
    """The short names of linear layers in attention, and of all others ("mlp")."""
    return describe(model).kinds


def describe(model: Any) -> LinearLayers:
    """Everything above, without the weights."""
    base = unwrapped(model)
    return LinearLayers(str(base.config.model_type), type(base).__name__, type(base).__module__,
                        {at.name: at for at, _ in walk(base)})


def has_transposed_layers(model: Any) -> bool:
    """Are its linear layers GPT-2's, whose weights are (in, out)? PEFT has to be told."""
    return any(hasattr(getattr(layer, "base_layer", layer), "nf") for _, layer in walk(model))


def find_blocks(base: Any) -> tuple[str, nn.ModuleList]:
    """The name and the list of a decoder's blocks: the outermost list as long as the config says. Raises ValueError for
    a model that has none."""
    from torch import nn

    count = base.config.get_text_config(decoder=True).num_hidden_layers
    decoder = base.get_decoder()
    found = [(name, module) for name, module in decoder.named_modules()
             if isinstance(module, nn.ModuleList) and len(module) == count]
    if not found:
        raise ValueError(f"{type(base).__name__} has no list of {count} layers")
    name, blocks = min(found, key=lambda pair: pair[0].count("."))
    lead = next(lead for lead, module in base.named_modules() if module is decoder)
    return ".".join(filter(None, (lead, name))), blocks


def walk(model: Any) -> Iterator[tuple[LinearLayer, nn.Module]]:
    """Every linear layer of the blocks, in order."""
    place, blocks = find_blocks(unwrapped(model))
    for number, block in enumerate(blocks):
        found = dict(linear_parts(block, ""))
        short = short_names(tuple(found))
        for path, layer in found.items():
            plain: Any = getattr(layer, "base_layer", layer)
            wide, tall = (plain.nx, plain.nf) if hasattr(plain, "nf") else (plain.in_features, plain.out_features)
            around = path.lower().rpartition(".")[0]
            yield LinearLayer(f"{place}.{number}.{path}", number, short[path], wide, tall,
                              any(word in around for word in ATTENTION)), layer


def linear_parts(module: nn.Module, path: str) -> Iterator[tuple[str, nn.Module]]:
    """The outermost linear layers of a module, each with its path in it."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    if path and isinstance(getattr(module, "base_layer", module), nn.Linear | Conv1D):
        yield path, module
        return
    for name, child in module.named_children():
        yield from linear_parts(child, f"{path}.{name}" if path else name)


@lru_cache(8)
def short_names(paths: tuple[str, ...]) -> dict[str, str]:
    """Path within a block → the shortest end of it, by whole parts, that no other path has."""
    def ends(path: str) -> list[str]:
        parts = path.split(".")
        return [".".join(parts[-count:]) for count in range(1, len(parts) + 1)]

    count = Counter(end for path in paths for end in ends(path))
    return {path: next((end for end in ends(path) if count[end] == 1), path) for path in paths}


def linear_layers_of(files: BaseFiles) -> LinearLayers:
    """A base's, from its config.json alone: no weight is read. Raises BadBase."""
    return described(files.path, json.dumps(files.config, sort_keys=True))


@lru_cache(8)
def described(path: Path, config: str) -> LinearLayers:
    """`config`: the text of config.json, by which the answer is remembered."""
    from lens.base.loading import blank_model

    try:
        return describe(blank_model(path))
    except ValueError as err:
        if isinstance(err, BadBase):
            raise
        raise BadBase("base-no-decoder", path=path, reason=first_line(err)) from err
