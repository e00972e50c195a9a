"""BLOOM's forward, written out over transformers' own weights, for rows that each carry their own LoRA.

One function serves prefill and single steps. It is written out because a step of a small model is mostly
overhead: transformers' modules, its cache and PEFT's layers take several times as long as the arithmetic.
Tests hold it to transformers' logits.

BLOOM: Le Scao et al., 2022. ALiBi: Press et al., "Train Short, Test Long" (2021).
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from compare.models.cpu_matmul import product
from compare.models.lora_rows import Gate, linear_of
from lens.adapter.config import LINEAR_LAYERS
from lens.errors import BadBase

SMALL = 250_000_000  # weights × tokens; in less work, threads wait for one another longer than they save
CHUNKS = {"cpu": 64, "cuda": 4096}  # tokens read at once, between two steps of the batch; by bench.engine


@dataclass(frozen=True)
class Norm:
    weight: Tensor
    bias: Tensor
    eps: float

    def __call__(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)


@dataclass(frozen=True)
class KeysValues:
    """Keys and values, each (layers, rows, heads, positions, head size): views of the rows and time in use."""

    keys: Tensor
    values: Tensor


def slopes(heads: int) -> Tensor:
    """ALiBi's slope of each head, (heads,) float32, as transformers' `build_alibi_tensor` has them."""
    whole = 2 ** math.floor(math.log2(heads))
    first = torch.arange(1, 1 + whole) * -(2.0 ** -(math.log2(whole) - 3))
    if whole == heads:
        return torch.pow(2.0, first)
    rest = torch.arange(1, 1 + 2 * (heads - whole), 2) * -(2.0 ** -(math.log2(2 * whole) - 3))
    return torch.pow(2.0, torch.cat([first, rest]))


class Bloom:
    """The weights of one BloomForCausalLM, shared with it, not copied."""

    def __init__(self, model: Any) -> None:
        config, body = model.config, model.transformer
        if config.apply_residual_connection_post_layernorm:
            raise BadBase("residual-after-norm")
        self.n_layer, self.n_head, self.hidden_size = config.n_layer, config.n_head, config.hidden_size
        self.head_size = config.hidden_size // config.n_head
        self.embedding, self.head = body.word_embeddings.weight, model.lm_head.weight
        self.dtype, self.device = self.embedding.dtype, self.embedding.device
        self.size, self.threads, self.process = model.num_parameters(), torch.get_num_threads(), os.getpid()
        self.slopes = slopes(self.n_head).to(self.device)
        norm = lambda m: Norm(m.weight, m.bias, m.eps)  # noqa: E731
        self.norm_in, self.norm_out = norm(body.word_embeddings_layernorm), norm(body.ln_f)
        self.norms = [(norm(b.input_layernorm), norm(b.post_attention_layernorm)) for b in body.h]
        plain = [{name: getattr(linear_of(b, name), "base_layer", linear_of(b, name)) for name in LINEAR_LAYERS}
                 for b in body.h]
        self.linears = [{name: (layer.weight, layer.bias) for name, layer in block.items()} for block in plain]

    def new_cache(self, rows: int, positions: int) -> KeysValues:
        shape = (self.n_layer, rows, self.n_head, positions, self.head_size)
        return KeysValues(*(torch.empty(shape, dtype=self.dtype, device=self.device) for _ in range(2)))

    def use_threads(self, tokens: int) -> None:
        """All threads for much work, one for little, and in a fork, where the others of the parent are missing."""
        shared = self.size * tokens >= SMALL and os.getpid() == self.process
        wanted = self.threads if shared else 1
        if self.device.type == "cpu" and torch.get_num_threads() != wanted:
            torch.set_num_threads(wanted)

    def linear(self, x: Tensor, layer: int, name: str, gate: Gate | None) -> Tensor:
        weight, bias = self.linears[layer][name]
        out = product(x, weight, bias)
        return out if gate is None else gate.add(out, x, layer, name)

    def attention(self, x: Tensor, layer: int, cache: KeysValues, at: int, bias: Tensor, gate: Gate | None) -> Tensor:
        rows, length, _ = x.shape
        fused = self.linear(x, layer, "query_key_value", gate).view(rows, length, self.n_head, 3, self.head_size)
        query, key, value = fused.transpose(1, 2).unbind(3)  # each (rows, heads, length, head size)
        keys, values = cache.keys[layer], cache.values[layer]
        keys[:, :, at:at + length] = key
        values[:, :, at:at + length] = value
        scores = (query @ keys.mT).float().mul_(self.head_size**-0.5).add_(bias)
        mixed = scores.softmax(-1).to(x.dtype) @ values
        return self.linear(mixed.transpose(1, 2).reshape(rows, length, -1), layer, "dense", gate)

    def states(self, ids: Tensor, cache: KeysValues, at: int, bias: Tensor, gate: Gate | None = None) -> Tensor:
        """(rows, length) ids → (rows, length, hidden) last hidden states.

        Their keys and values are written at [at, at + length) of the cache's positions; `bias`
        (rows or 1, heads, length, positions), float32, is ALiBi plus -inf where a position may not look.
        """
        self.use_threads(ids.numel())
        x = self.norm_in(F.embedding(ids, self.embedding))
        for layer, (before, between) in enumerate(self.norms):
            x = x + self.attention(before(x), layer, cache, at, bias, gate)
            wide = F.gelu(self.linear(between(x), layer, "dense_h_to_4h", gate), approximate="tanh")
            x = x + self.linear(wide, layer, "dense_4h_to_h", gate)
        return self.norm_out(x)

    def logits(self, states: Tensor) -> Tensor:
        """(…, hidden) → (…, vocabulary), float32."""
        return product(states, self.head).float()

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

    def read(self, ids: Tensor, gate: Gate | None = None, chunk: int | None = None) -> Tensor:
        """Whole sequences from their first token: (rows, length) ids → (rows, length, hidden) states."""
        cache = self.new_cache(*ids.shape)
        return torch.cat([self.read_chunk(ids[:, :end], gate, cache, start)
                          for start, end in self.chunks(*ids.shape, chunk)], 1)

    def read_chunk(self, ids: Tensor, gate: Gate | None, cache: KeysValues, start: int) -> Tensor:
        """The ids from `start` on, of sequences whose ids before it are in the cache; theirs are written there."""
        end = ids.shape[1]
        position = torch.arange(end, device=self.device)
        bias = (self.slopes[:, None, None] * position).masked_fill(position > position[start:, None], -torch.inf)[None]
        seen = KeysValues(cache.keys[..., :end, :], cache.values[..., :end, :])
        return self.states(ids[:, start:], seen, start, bias, gate)
