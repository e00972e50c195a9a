"""The forward of models with rotary positions, written out: Llama, InternLM 3, Mistral, Qwen 2 and 3, Gemma 1 to 3.

Their layers differ in norms before and after each part, norms of queries and keys, biases, windows, and how angles
grow; all of it is read off transformers' own modules, frequencies and their scaling (linear, llama3, yarn, …) too.
Tests hold it to transformers' logits.

Keys are stored rotated by their number within their own row, so that a row can move along the shared time axis. In a
sliding window only the last positions before now are seen; all rows end at now, so a step takes that slice.

RoPE: Su et al., 2021.
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

ROTARY = ("llama", "internlm3", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text")  # as config.json says
QKV, WIDE = ("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj")  # layers that read the same states
AROUND_ZERO = ("gemma", "gemma2", "gemma3_text")  # whose norms multiply by 1 + weight, in float32


@dataclass(frozen=True)
class Norm:
    """RMSNorm: Zhang and Sennrich, 2019. `weight` float32 where it is multiplied before the cast back."""

    weight: Tensor
    eps: float

    def __call__(self, x: Tensor) -> Tensor:
        if self.weight.dtype == x.dtype == torch.float32:
            return F.rms_norm(x, self.weight.shape, self.weight, self.eps)
        if self.weight.dtype == x.dtype:
            return F.rms_norm(x.float(), self.weight.shape, None, self.eps).to(x.dtype) * self.weight
        return F.rms_norm(x.float(), self.weight.shape, self.weight, self.eps).to(x.dtype)


@dataclass(frozen=True)
class Layer:
    """What one block has beside its linear layers; norms that a family lacks are None. `angles`: which of the
    frequencies; `window`: how many positions it sees, itself included, None: all."""

    before_attention: Norm
    after_attention: Norm | None
    before_mlp: Norm
    after_mlp: Norm | None
    query_norm: Norm | None
    key_norm: Norm | None
    angles: str
    window: int | None


class Angles:
    """cos and sin, (positions, head size) each in the model's dtype, of as many positions as were asked for so far;
    the first half of sin is negative, so that x·cos + (its halves exchanged)·sin turns x."""

    def __init__(self, frequencies: Tensor, scaling: float, dtype: torch.dtype):
        self.frequencies, self.scaling, self.dtype = frequencies.float(), scaling, dtype
        self.shorter: list[tuple[Tensor, Tensor]] = []  # a captured graph goes on reading where they were
        self.grow(0)

    def grow(self, positions: int) -> None:
        at = torch.arange(positions, device=self.frequencies.device).float()[:, None] * self.frequencies
        cos, sin = ((side * self.scaling).to(self.dtype) for side in (at.cos(), at.sin()))
        self.cos, self.sin = torch.cat([cos, cos], 1), torch.cat([-sin, sin], 1)
        self.shorter.append((self.cos, self.sin))

    def of(self, own: Tensor, positions: int) -> tuple[Tensor, Tensor]:
        """(rows, length) numbers below `positions` → cos, sin (rows, length, 1, head size)."""
        if positions > len(self.cos):
            self.grow(2 * positions)
        return self.cos[own][:, :, None], self.sin[own][:, :, None]


@dataclass(frozen=True)
class Ready:
    """A slot with what every layer needs: `angles` by name; by window the first position seen, and the mask there."""

    slot: Slot
    angles: dict[str, tuple[Tensor, Tensor]]
    seen: dict[int | None, tuple[int, Tensor]]


class Rotary(WrittenOut):
    """The weights of one causal LM of these families."""

    def __init__(self, model: Any) -> None:
        config, body = model.config, model.model
        first = body.layers[0].self_attn
        super().__init__(model, config.num_key_value_heads, first.head_dim)
        if self.device.type != "cpu":  # fewer launches; on a processor one column took a tenth longer so
            self.join(*QKV)
            self.join(*WIDE)
        self.embedding, self.head = body.embed_tokens.weight, model.lm_head.weight
        scale = getattr(body.embed_tokens, "embed_scale", None)
        self.scale = None if scale is None else scale.to(self.dtype)
        self.score_scale, self.activation = first.scaling, body.layers[0].mlp.act_fn
        # Gemma 3 has a number here too, but transformers' forward leaves it out
        self.score_cap = config.attn_logit_softcapping if config.model_type == "gemma2" else None
        self.one_call &= self.score_cap is None
        self.logit_cap = getattr(config, "final_logit_softcapping", None)
        self.around_zero = config.model_type in AROUND_ZERO
        self.last_norm = self.norm(body.norm)
        self.layers = [self.read_layer(block, config) for block in body.layers]
        self.angles = {name: Angles(*frequencies(body.rotary_emb, name), self.dtype)
                       for name in dict.fromkeys(layer.angles for layer in self.layers)}
        self.windows = list(dict.fromkeys(layer.window for layer in self.layers))

    def norm(self, module: Any) -> Norm:
        weight = 1 + module.weight.float() if self.around_zero else module.weight
        return Norm(weight, module.eps if self.around_zero else module.variance_epsilon)

    def read_layer(self, block: Any, config: Any) -> Layer:
        attention, norm = block.self_attn, self.norm
        between = norm(block.post_attention_layernorm)
        # before and after each part where a family has norms after them, else only before
        after_attention, before_mlp, after_mlp = (
            (between, norm(block.pre_feedforward_layernorm), norm(block.post_feedforward_layernorm))
            if hasattr(block, "pre_feedforward_layernorm") else (None, between, None))
        query, key = (norm(getattr(attention, name)) if hasattr(attention, name) else None
                      for name in ("q_norm", "k_norm"))
        window = config.sliding_window if config.model_type == "mistral" else getattr(attention, "sliding_window", None)
        angles = attention.layer_type if config.model_type == "gemma3_text" else ""
        return Layer(norm(block.input_layernorm), after_attention, before_mlp, after_mlp, query, key, angles, window)

    def embed(self, ids: Tensor) -> Tensor:
        x = F.embedding(ids, self.embedding)
        return x if self.scale is None else x * self.scale

    def norm_out(self, x: Tensor) -> Tensor:
        return self.last_norm(x)

    def logits(self, states: Tensor) -> Tensor:
        logits = super().logits(states)
        return logits if self.logit_cap is None else (logits / self.logit_cap).tanh() * self.logit_cap

    def prepare(self, slot: Slot) -> Ready:
        end = slot.at + slot.own.shape[1]
        seen = {window: self.seen_through(window, slot, end) for window in self.windows}
        return Ready(slot, {name: angles.of(slot.own, end) for name, angles in self.angles.items()},
                     {window: (first, self.mask(bias)) for window, (first, bias) in seen.items()})

    def seen_through(self, window: int | None, slot: Slot, end: int) -> tuple[int, Tensor]:
        """The first position that is seen of those before `end`, and the bias from there on."""
        if window is None or window >= end:
            return 0, slot.bias
        if slot.places is not None:
            position = torch.arange(end, device=self.device)
            return 0, slot.bias.masked_fill(position <= slot.places[:, None] - window, -torch.inf)
        first = max(0, slot.at + 1 - window)
        bias = slot.bias[..., first:]
        if slot.own.shape[1] == 1:
            return first, bias
        position = torch.arange(first, end, device=self.device)
        return first, bias.masked_fill(position <= position[slot.at - first:, None] - window, -torch.inf)

    def layer(self, x: Tensor, layer: int, slot: Ready, gate: Gate | None) -> Tensor:
        own = self.layers[layer]
        mixed = self.attention(own.before_attention(x), layer, slot, gate)
        x = x + (mixed if own.after_attention is None else own.after_attention(mixed))
        inner = own.before_mlp(x)
        opening, wide = self.linears_of(inner, layer, WIDE, gate)
        out = self.linear(self.activation(opening) * wide, layer, "down_proj", gate)
        return x + (out if own.after_mlp is None else own.after_mlp(out))

    def attention(self, x: Tensor, layer: int, ready: Ready, gate: Gate | None) -> Tensor:
        rows, length, _ = x.shape
        own, slot = self.layers[layer], ready.slot
        query, key, value = (one.view(rows, length, -1, self.head_size)
                             for one in self.linears_of(x, layer, QKV, gate))
        if own.query_norm and own.key_norm:
            query, key = own.query_norm(query), own.key_norm(key)
        cos, sin = ready.angles[own.angles]
        both = torch.cat([query, key], 2)
        both = (both * cos).addcmul_(both.roll(self.head_size // 2, -1), sin).transpose(1, 2)
        keys, values = slot.write(layer, both[:, self.n_head:], value.transpose(1, 2))
        first, mask = ready.seen[own.window]
        if first:
            keys, values = keys[:, :, first:], values[:, :, first:]
        mixed = attend(both[:, :self.n_head], keys, values, mask, self.score_scale, self.score_cap, self.one_call)
        return self.linear(mixed, layer, "o_proj", gate)


def frequencies(module: Any, name: str) -> tuple[Tensor, float]:
    """Of transformers' rotary module, and what cos and sin are multiplied by; `name`: of the kind of layer, or empty.

    Those it was made with: `dynamic` scaling has others beyond the positions a model knows, which no row here reaches.
    """
    before = f"{name}_" if name else ""
    return getattr(module, f"{before}original_inv_freq"), getattr(module, f"{before}attention_scaling")


def fits(model: Any) -> bool:
    """Is it one of these families, with nothing that is not written out here?"""
    config = model.config
    if config.model_type not in ROTARY or getattr(config, "use_bidirectional_attention", False):
        return False
    module, head_size = model.model.rotary_emb, model.model.layers[0].self_attn.head_dim
    return "longrope" not in str(module.rope_type) and all(2 * len(buffer) == head_size for buffer in module.buffers())
