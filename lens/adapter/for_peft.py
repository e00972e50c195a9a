"""A checked adapter put on a model by PEFT, which is given the names, ranks and weights that were judged, no more."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

import torch

from lens.adapter.config import Patterns, shown
from lens.adapter.directory import AdapterFiles
from lens.adapter.weights import load_weights
from lens.base.linear_layers import describe, has_transposed_layers, layers_by_name, unwrapped
from lens.errors import BadAdapter


def attach(model: Any, adapters: Sequence[AdapterFiles]) -> Any:
    """The base with these adapters, as a PeftModel in evaluation mode with the first one active.

    `model` may be a PeftModel already; which of its adapters is active then stays as it is. Raises BadAdapter when a
    shape or a module does not belong to this base; the base is then unchanged.
    """
    from peft import PeftModel

    check_fit(model, adapters)
    peft_model: Any = model if hasattr(model, "peft_config") else None
    transposed = has_transposed_layers(model)
    active = peft_model.active_adapter if peft_model else adapters[0].key
    for files in adapters:
        if peft_model is None:
            peft_model = PeftModel(model, config_of(files, transposed), adapter_name=files.key)
        else:
            peft_model.add_adapter(files.key, config_of(files, transposed))
        put_weights(peft_model, files, files.key)
    peft_model.set_adapter(active, inference_mode=True)
    return peft_model.eval()


def config_of(files: AdapterFiles, transposed: bool = False) -> Any:
    """PEFT's LoraConfig with every module by its whole name, so that it has nothing to guess or to match."""
    from peft import LoraConfig

    given, at = files.settings, files.sites
    odd_alphas: dict[str, Any] = {re.escape(m): s.alpha for m, s in at.items() if s.alpha != given.lora_alpha}
    alpha: Any = given.lora_alpha  # it need not be whole, though PEFT annotates it so
    return LoraConfig(task_type="CAUSAL_LM", inference_mode=True, r=given.r, lora_alpha=alpha,
                      use_rslora=given.use_rslora, fan_in_fan_out=transposed, target_modules=sorted(at),
                      alpha_pattern=odd_alphas,
                      rank_pattern={re.escape(m): s.rank for m, s in at.items() if s.rank != given.r})


def check_fit(model: Any, adapters: Iterable[AdapterFiles]) -> None:
    """Raises BadAdapter for an adapter that is not one of this model's size, or that lacks some of its layers."""
    layers, config = describe(model).by_name, unwrapped(model).config
    name = shown(config.name_or_path or config.model_type)
    for files in adapters:
        known = {"path": files.path, "made_for": files.settings.made_for, "name": name}
        for module, site in files.sites.items():
            if module not in layers:
                raise BadAdapter("adapter-layer-not-in-base", module=module, **known)
            found, own = (site.out_features, site.in_features), layers[module]
            if found != (own.out_features, own.in_features):
                raise BadAdapter("adapter-other-size", module=module, shape=found,
                                 base=(own.out_features, own.in_features), **known)
        patterns = Patterns(files.path)
        for module in layers:
            if module not in files.sites and files.settings.targets(module, patterns):
                raise BadAdapter("adapter-layer-missing", module=module, **known)


def put_weights(peft_model: Any, files: AdapterFiles, key: str) -> None:
    """Copy a directory's A and B into the adapter that PEFT calls `key`. Raises BadAdapter unless all fit exactly."""
    layers, found = layers_by_name(peft_model), load_weights(files.path, files.sites)
    there = {name for name, layer in layers.items() if key in getattr(layer, "lora_A", {})}
    if there != set(found):
        raise BadAdapter("adapter-other-modules", path=files.path, file=len(found), model=len(there))
    with torch.no_grad():
        for name, (a, b) in found.items():
            sides = layers[name].lora_A[key].weight, layers[name].lora_B[key].weight
            if (sides[0].shape, sides[1].shape) != (a.shape, b.shape):
                raise BadAdapter("adapter-other-rank", path=files.path, module=name, file=a.shape[0],
                                 model=sides[0].shape[0])
            scaling = files.scaling_of(name), layers[name].scaling[key]
            if not math.isclose(*scaling):
                raise BadAdapter("adapter-other-alpha", path=files.path, module=name, file=scaling[0],
                                 model=scaling[1])
            sides[0].copy_(a)
            sides[1].copy_(b)
