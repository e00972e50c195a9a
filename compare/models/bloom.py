"""BLOOM's forward, written out over transformers' own weights. Tests hold it to transformers' logits.

BLOOM: Le Scao et al., 2022. ALiBi: Press et al., "Train Short, Test Long" (2021).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from compare.models.architecture import Slot, WrittenOut
from compare.models.attention import attend
from compare.models.lora_rows import Gate
from lens.errors import BadBase


@dataclass(frozen=True)
class Norm:
    weight: Tensor
    bias: Tensor
    eps: float

    def __call__(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)


class Bloom(WrittenOut):
    """The weights of one BloomForCausalLM."""

    longest = 2048  # what it was trained on, though ALiBi itself has no limit

    def __init__(self, model: Any) -> None:
        from transformers.models.bloom.modeling_bloom import build_alibi_tensor

        config, body = model.config, model.transformer
        if config.apply_residual_connection_post_layernorm:
            raise BadBase("residual-after-norm")
        super().__init__(model, config.n_head, config.hidden_size // config.n_head)
        self.embedding, self.head = body.word_embeddings.weight, model.lm_head.weight
        self.slopes = build_alibi_tensor(torch.ones(1, 2), self.n_head, torch.float32)[:, 0, 1].to(self.device)
        norm = lambda m: Norm(m.weight, m.bias, m.eps)  # noqa: E731
        self.norm_in, self.last_norm = norm(body.word_embeddings_layernorm), norm(body.ln_f)
        self.norms = [(norm(b.input_layernorm), norm(b.post_attention_layernorm)) for b in body.h]

    def bias(self, starts: list[int], positions: int) -> Tensor:
        """ALiBi: slope × position within the row; what is the same for all positions does not show in a softmax."""
        own = self.within(starts, positions)[:, None]
        return (self.slopes[:, None] * own).masked_fill(own < 0, -torch.inf)

    def embed(self, ids: Tensor) -> Tensor:
        return self.norm_in(F.embedding(ids, self.embedding))

    def prepare(self, slot: Slot) -> Slot:
        """In one call the bias is in the model's dtype, so it counts from now: exact where it weighs, and rounded by
        1/256 of itself far away."""
        if not self.one_call:
            return slot
        return slot._replace(bias=self.mask(slot.bias - self.slopes[:, None, None] * slot.own[:, None, :, None]))

    def norm_out(self, x: Tensor) -> Tensor:
        return self.last_norm(x)

    def layer(self, x: Tensor, layer: int, slot: Slot, gate: Gate | None) -> Tensor:
        before, between = self.norms[layer]
        x = x + self.attention(before(x), layer, slot, gate)
        wide = F.gelu(self.linear(between(x), layer, "dense_h_to_4h", gate), approximate="tanh")
        return x + self.linear(wide, layer, "dense_4h_to_h", gate)

    def attention(self, x: Tensor, layer: int, slot: Slot, gate: Gate | None) -> Tensor:
        rows, length, _ = x.shape
        fused = self.linear(x, layer, "query_key_value", gate).view(rows, length, self.n_head, 3, self.head_size)
        query, key, value = fused.transpose(1, 2).unbind(3)  # each (rows, heads, length, head size)
        keys, values = slot.write(layer, key, value)
        mixed = attend(query, keys, values, slot.bias, self.head_size**-0.5, one_call=self.one_call)
        return self.linear(mixed, layer, "dense", gate)
