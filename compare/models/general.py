"""Any other causal LM, by transformers' own forward over the shared KV cache, each row with its own LoRA.

Slower than what is written out, and as exact: transformers is given the batch's keys and values as its cache, each id's
number within its row as its position, and a mask. Hooks on the linear layers, which go when this object goes, add each
row's own update; PEFT's own adding is off. Whether a model is right that way (its attention may take no such mask, or
its layers may keep a state instead of keys and values) is tried before anybody asks it.
"""

from __future__ import annotations

import inspect
import weakref
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from compare.models.architecture import Architecture, KeysValues, Slot
from compare.models.lora_rows import Gate
from compare.models.receipt import EPSILONS, SHARE, largest, probe_ids
from lens.base.linear_layers import linear_layers
from lens.errors import BadAdapter, BadBase, LensError, first_line

KINDS = DynamicLayer, DynamicSlidingWindowLayer  # layers that keep keys and values, and nothing besides


class SharedLayer(DynamicLayer):
    """One layer of the batch's cache, as transformers' attention asks for it."""

    def __init__(self, keys: Tensor, values: Tensor, at: int):
        super().__init__()
        self.keys, self.values, self.at, self.is_initialized = keys, values, at, True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        assert self.keys is not None and self.values is not None
        end = self.at + key_states.shape[-2]
        self.keys[:, :, self.at:end] = key_states
        self.values[:, :, self.at:end] = value_states
        return self.keys, self.values

    def get_seq_length(self) -> int:
        return self.at


class General(Architecture):
    """One causal LM of transformers. Raises BadBase where rows of a batch would not be what the model says alone."""

    def __init__(self, model: Any) -> None:
        self.model, self.body = model, model.base_model
        self.gate: Gate | None = None
        self.asked = torch.Size()
        self.switch_peft_off()
        try:
            refuse(model.config)
            with torch.inference_mode():
                probe = torch.tensor([probe_ids(model.config.get_text_config().vocab_size)], device=model.device)
                found = model(input_ids=probe, use_cache=True)
                shapes = shapes_of(getattr(found, "past_key_values", None))
            if len(shapes) != 1:
                raise BadBase("base-keeps-no-keys", type=model.config.model_type)
            kv_heads, head_size, self.value_size = shapes.pop()
            super().__init__(model, kv_heads, head_size)
            self.n_layer, self.vocab_size = len(found.past_key_values), found.logits.shape[-1]
            self.window = min([self.window, *narrow(model.config)])
            self.takes = set(inspect.signature(self.body.forward).parameters)
            self.hook()
            self.prove(probe, found.logits[0].float())
        except LensError:
            raise
        except (torch.OutOfMemoryError, MemoryError):
            raise
        except Exception as err:  # noqa: BLE001 (somebody else's forward)
            raise BadBase("base-not-by-rows", type=model.config.model_type, reason=first_line(err)) from err

    def new_cache(self, rows: int, positions: int) -> KeysValues:
        shape = (self.n_layer, rows, self.kv_heads, positions)
        return KeysValues(*(torch.zeros((*shape, size), dtype=self.dtype, device=self.device)
                            for size in (self.head_size, self.value_size)))

    def hook(self) -> None:
        """Let every linear layer add what the present gate has for it, as long as this object lives."""
        me, handles = weakref.ref(self), []
        for (number, name), layer in linear_layers(self.model).items():
            plain: Any = getattr(layer, "base_layer", layer)
            handles.append(plain.register_forward_hook(partial(add_update, me, number, name)))
        weakref.finalize(self, remove_all, handles)

    def switch_peft_off(self) -> None:
        """No adapter is added to all rows; attaching one, and `disable_adapter`, switch that on."""
        for module in self.body.modules():
            if not getattr(module, "disable_adapters", True):
                module.enable_adapters(False)

    def states(self, ids: Tensor, slot: Slot, gate: Gate | None = None, seen: list[Tensor] | None = None) -> Tensor:
        assert seen is None  # what ends the last layer has no name that all families share
        self.use_threads(ids.numel())
        self.switch_peft_off()
        rows, length = ids.shape
        layers = zip(slot.cache.keys, slot.cache.values, strict=True)
        given = {"input_ids": ids, "position_ids": slot.own.expand(rows, length),
                 "attention_mask": slot.bias.to(self.dtype).expand(rows, 1, length, -1), "use_cache": True,
                 "past_key_values": Cache(layers=[SharedLayer(keys, values, slot.at) for keys, values in layers])}
        self.gate, self.asked = gate, ids.shape
        try:
            states: Tensor = self.body(**{k: v for k, v in given.items() if k in self.takes}).last_hidden_state
            return states
        finally:
            self.gate = None

    def logits(self, states: Tensor) -> Tensor:
        of, logits = partial(getattr, self.model.config), self.model.get_output_embeddings()(states)
        logits = logits * (of("logit_scale", None) or 1) / (of("logits_scaling", None) or 1)
        if cap := of("final_logit_softcapping", None):
            logits = (logits / cap).tanh() * cap
        return logits.float()

    @torch.inference_mode()
    def prove(self, probe: Tensor, right: Tensor) -> None:
        """Raises BadBase unless two rows of different ages get the model's own logits, (probe, vocabulary)."""
        ages, now = (9, 5), 12
        cache = self.new_cache(2, now + 1)
        for row, age in enumerate(ages):
            own = self.new_cache(1, age)
            for start, end in ((0, 3), (3, age)):
                self.read_chunk(probe[:, :end], None, own, start)
            cache.keys[:, row:row + 1, :, now - age:now] = own.keys
            cache.values[:, row:row + 1, :, now - age:now] = own.values
        bias = self.bias([now - age for age in ages], now + 1)[:, :, None]
        numbers = torch.tensor(ages, device=self.device)
        states = self.states(probe[0, numbers][:, None], Slot(cache, now, bias, numbers[:, None]))
        apart, size = largest(self.logits(states[:, 0]) - right[numbers]), largest(right) or 0.0
        if apart is None or apart > size * max(EPSILONS * torch.finfo(self.dtype).eps, SHARE):
            raise BadBase("base-rows-differ", type=self.model.config.model_type, difference=apart)


def refuse(config: Any) -> None:
    """Raises BadBase where config.json alone says that no row of a batch can be had exactly."""
    if getattr(config, "alibi", False):  # Falcon makes its bias of a padding mask, and takes no mask a row
        raise BadBase("base-alibi-not-by-rows", type=config.model_type)
    if any(type(layer) not in KINDS for layer in DynamicCache(config=config).layers):
        raise BadBase("base-keeps-no-keys", type=config.model_type)


def shapes_of(cache: Any) -> set[tuple[int, int, int]]:
    """(heads, head size, size of a value) of every layer, none where a layer keeps something else besides; more or
    fewer than one of them cannot be held."""
    layers = getattr(cache, "layers", [])
    if any(type(layer) not in KINDS or not layer.is_initialized for layer in layers):
        return set()
    return {(layer.keys.shape[1], layer.keys.shape[3], layer.values.shape[3]) for layer in layers}


def narrow(config: Any) -> list[int]:
    """Lengths up to which a model is one function of distance: beyond its window, or where its angles change for all
    rows at once, ours would not be its own."""
    rope = getattr(config, "rope_parameters", None) or {}
    short = rope.get("original_max_position_embeddings") if rope.get("rope_type") == "longrope" else None
    return [n for n in (getattr(config, "sliding_window", None), getattr(config, "max_seq_len", None), short) if n]


def add_update(me: weakref.ref[General], number: int, name: str, module: nn.Module, given: tuple[Tensor, ...],
               out: Tensor) -> Tensor | None:
    """A linear layer's forward hook: its output with each row's own update."""
    general = me()
    if general is None or general.gate is None or (number, name) not in general.gate.stack.weights:
        return None
    rows, length = general.asked
    x = given[0]
    if x.shape[:-1].numel() != rows * length:
        raise BadAdapter("adapter-layer-not-by-rows", adapter=general.gate.stack.ranks[0][0][:80], module=name)
    added = general.gate.add(out.view(rows, length, -1), x.view(rows, length, -1), number, name)
    return added.view(out.shape)


def remove_all(handles: list[Any]) -> None:
    for handle in handles:
        handle.remove()
