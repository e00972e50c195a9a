"""What the batch needs of a family of models: a forward over one shared KV cache, each row with its own LoRA.

A family says how ids are embedded (`embed`), what a layer does (`layer`), what ends the last one (`norm_out`), and how
much a position is seen from how far (`bias`); everything else is here. Nothing in it may depend on where on the shared
time axis a row stands, or rows could not be laid side by side: attention knows distances (ALiBi, sliding windows), and
what is stored of a position is made from its number within its own row (`Slot.own`; rotated keys).

dtypes: weights, states, keys and values in the model's; scores, softmax, logits and each row's own update in float32.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from compare.models.cpu_matmul import CACHE, product
from compare.models.lora_rows import Gate
from lens.base.linear_layers import linear_layers

SMALL = 36_000_000  # weights a layer × tokens; in less work, threads wait for one another longer than they save
CHUNKS = {"cpu": 64, "cuda": 4096}  # tokens read at once, between two steps of the batch; by bench.engine
IDLE = 8  # times as many on a processor while nobody waits for a step between them
WINDOW = 8192  # tokens of a question and its answer; fewer where a model knows fewer positions


class KeysValues(NamedTuple):
    """Keys and values, each (layers, rows, heads, positions, head size): views of the rows and time in use."""

    keys: Tensor
    values: Tensor


class Slot(NamedTuple):
    """Where (rows, length) ids are read: keys and values of what they may see, their own written at [at, at + length).

    `bias` (rows or 1, heads or 1, length, positions), float32: what is added to scores, -inf where a position may not
    look; `own` (rows or 1, length): each id's number within its row. `places` (length,): the positions written,
    where the device alone knows them; `at` is then the last that it could be.
    """

    cache: KeysValues
    at: int
    bias: Tensor
    own: Tensor
    places: Tensor | None = None

    def row(self, i: int) -> Slot:
        """Of one row alone."""
        cache = KeysValues(self.cache.keys[:, i:i + 1], self.cache.values[:, i:i + 1])
        return Slot(cache, self.at, self.bias[i:i + 1], self.own[i:i + 1], self.places)

    def write(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Lay a layer's (rows, heads, length, head size) keys and values into their place; returns all that it has."""
        keys, values = self.cache.keys[layer], self.cache.values[layer]
        if self.places is None:
            end = self.at + key.shape[2]
            keys[:, :, self.at:end], values[:, :, self.at:end] = key, value
        else:
            keys.index_copy_(2, self.places, key)
            values.index_copy_(2, self.places, value)
        return keys, values


class Architecture(ABC):
    """The weights of one causal LM, shared with it, not copied."""

    longest: ClassVar[int] = WINDOW

    def __init__(self, model: Any, kv_heads: int, head_size: int):
        config = model.config
        self.n_layer, self.n_head, self.hidden_size = (
            config.num_hidden_layers, config.num_attention_heads, config.hidden_size)
        self.kv_heads, self.head_size, self.vocab_size = kv_heads, head_size, config.vocab_size
        self.dtype, self.device = model.dtype, model.device
        self.size, self.threads, self.process = model.num_parameters(), torch.get_num_threads(), os.getpid()
        self.cold = self.size * self.dtype.itemsize > CACHE
        self.window = min(self.longest, getattr(config, "max_position_embeddings", None) or self.longest)

    @abstractmethod
    def states(self, ids: Tensor, slot: Slot, gate: Gate | None = None, seen: list[Tensor] | None = None) -> Tensor:
        """(rows, length) ids → (rows, length, hidden) last hidden states; keys and values are written in the slot.

        `seen`, which is for what is written out alone, gets the states after each layer, before the last norm.
        """

    @abstractmethod
    def logits(self, states: Tensor) -> Tensor:
        """(…, hidden) → (…, vocabulary), float32."""

    def bias(self, starts: list[int], positions: int) -> Tensor:
        """(rows, heads or 1, positions) float32, for rows that begin at these positions: what a position's distance
        adds to its score, up to a constant, and -inf before the row's start."""
        return torch.zeros((len(starts), 1, positions), device=self.device).masked_fill_(
            self.within(starts, positions)[:, None] < 0, -torch.inf)

    def within(self, starts: list[int], positions: int) -> Tensor:
        """(rows, positions): each position of the axis as the row's own number, below 0 before its start."""
        start = torch.tensor(starts, dtype=torch.long, device=self.device)
        return torch.arange(positions, device=self.device) - start[:, None]

    def new_cache(self, rows: int, positions: int) -> KeysValues:
        shape = (self.n_layer, rows, self.kv_heads, positions, self.head_size)
        return KeysValues(*(torch.empty(shape, dtype=self.dtype, device=self.device) for _ in range(2)))

    def use_threads(self, tokens: int) -> None:
        """All threads for much work, one for little, and in a fork, where the others of the parent are missing."""
        shared = self.size // self.n_layer * tokens >= SMALL and os.getpid() == self.process
        wanted = self.threads if shared else 1
        if self.device.type == "cpu" and torch.get_num_threads() != wanted:
            torch.set_num_threads(wanted)

    def chunks(self, rows: int, length: int, most: int | None = None) -> Iterator[tuple[int, int]]:
        """Start and end of the positions that are read at once, of so many rows of this length: as many as take the
        same time, a token costing 12 × hidden size multiplications a layer and, to look at what is before it, twice
        their number. `most`: no more than this."""
        alone, start = CHUNKS.get(self.device.type, CHUNKS["cuda"]), 0
        while start < length:
            wide = alone * 12 * self.hidden_size // (12 * self.hidden_size + 2 * start) // rows
            end = min(start + max(1, min(wide, most or wide)), length)
            yield start, end
            start = end

    def spans(self, rows: int, length: int, idle: Callable[[], bool]) -> Iterator[tuple[int, int]]:
        """As `chunks`, several at once on a processor while it is `idle`: each has its overhead."""
        left = list(self.chunks(rows, length))
        while left:
            count = IDLE if self.device.type == "cpu" and idle() else 1
            yield left[0][0], left[:count][-1][1]
            left = left[count:]

    def read(self, ids: Tensor, gate: Gate | None = None, chunk: int | None = None) -> Tensor:
        """Whole sequences from their first token: (rows, length) ids → (rows, length, hidden) states."""
        rows, length = ids.shape
        cache = self.new_cache(rows, length)
        return torch.cat([self.read_chunk(ids[:, :end], gate, cache, start)
                          for start, end in self.chunks(rows, length, chunk)], 1)

    def read_chunk(self, ids: Tensor, gate: Gate | None, cache: KeysValues, start: int,
                   seen: list[Tensor] | None = None) -> Tensor:
        """The ids from `start` on, of sequences whose ids before it are in the cache; theirs are written there."""
        return self.states(ids[:, start:], self.slot_from(cache, start, ids.shape[1]), gate, seen)

    def slot_from(self, cache: KeysValues, start: int, end: int) -> Slot:
        """Where these positions are read, of sequences that begin where the cache does."""
        position = torch.arange(end, device=self.device)
        bias = self.bias([0], end)[:, :, None].masked_fill(position > position[start:, None], -torch.inf)
        filled = KeysValues(cache.keys[..., :end, :], cache.values[..., :end, :])
        return Slot(filled, start, bias, position[None, start:])


class Joined(NamedTuple):
    """Linear layers that read the same states, as one: weight (sum of their widths, in), bias, and widths by name."""

    weight: Tensor
    bias: Tensor | None
    widths: dict[str, int]


class WrittenOut(Architecture):
    """A family whose forward stands here in full: a step of a small model is mostly overhead, and transformers'
    modules, its cache and PEFT's layers take several times as long as the arithmetic."""

    embedding: Tensor
    head: Tensor

    def __init__(self, model: Any, kv_heads: int, head_size: int):
        super().__init__(model, kv_heads, head_size)
        self.linears: list[dict[str, tuple[Tensor, Tensor | None]]] = [{} for _ in range(self.n_layer)]
        for (number, name), layer in linear_layers(model).items():
            plain: Any = getattr(layer, "base_layer", layer)
            self.linears[number][name] = plain.weight, plain.bias
        self.joined: list[dict[tuple[str, ...], Joined]] = [{} for _ in range(self.n_layer)]
        self.group = self.n_head // kv_heads
        self.one_call = self.device.type != "cpu"  # attention: one launch for seven

    def join(self, *names: str) -> None:
        """Lay these layers' weights side by side, so that one product does for all; the model's own become views."""
        for layers, joined in zip(self.linears, self.joined, strict=True):
            weights, biases = zip(*(layers[name] for name in names), strict=True)
            whole, widths = torch.cat([w.detach() for w in weights]), [len(w) for w in weights]
            for weight, part in zip(weights, whole.split(widths), strict=True):
                weight.data = part
            bias = None if all(b is None for b in biases) else torch.cat(
                [w.new_zeros(len(w)) if b is None else b.detach() for w, b in zip(weights, biases, strict=True)])
            joined[names] = Joined(whole, bias, dict(zip(names, widths, strict=True)))

    @abstractmethod
    def embed(self, ids: Tensor) -> Tensor:
        """(rows, length) → (rows, length, hidden)."""

    @abstractmethod
    def layer(self, x: Tensor, layer: int, slot: Any, gate: Gate | None) -> Tensor:
        """One block over the shared cache, residuals included; `slot`: as `prepare` gives it."""

    @abstractmethod
    def norm_out(self, x: Tensor) -> Tensor:
        """After the last layer."""

    def prepare(self, slot: Slot) -> Any:
        """What all layers need of a slot, worked out once."""
        return slot

    def states(self, ids: Tensor, slot: Slot, gate: Gate | None = None, seen: list[Tensor] | None = None) -> Tensor:
        self.use_threads(ids.numel())
        x, ready = self.embed(ids), self.prepare(slot)
        for layer in range(self.n_layer):
            x = self.layer(x, layer, ready, gate)
            if seen is not None:
                seen.append(x)
        return self.norm_out(x)

    def linear(self, x: Tensor, layer: int, name: str, gate: Gate | None) -> Tensor:
        weight, bias = self.linears[layer][name]
        out = product(x, weight, bias, self.cold)
        return out if gate is None else gate.add(out, x, layer, name)

    def linears_of(self, x: Tensor, layer: int, names: tuple[str, ...], gate: Gate | None) -> Sequence[Tensor]:
        """What each of these layers makes of the same states; one product where they were joined."""
        if names not in self.joined[layer]:
            return [self.linear(x, layer, name, gate) for name in names]
        weight, bias, widths = self.joined[layer][names]
        out = product(x, weight, bias, self.cold)
        return out.split(list(widths.values()), -1) if gate is None else gate.add_to_each(out, x, layer, widths)

    def mask(self, bias: Tensor) -> Tensor:
        """A (rows or 1, heads or 1, length, positions) bias as `attend` takes it."""
        if not self.one_call:
            return bias
        return (bias if bias.shape[2] == 1 else bias.repeat(1, 1, self.group, 1)).to(self.dtype)

    def logits(self, states: Tensor) -> Tensor:
        return product(states, self.head, cold=self.cold).float()
