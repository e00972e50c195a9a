"""Cross-entropy on taught positions alone, gathered before the vocabulary, for any decoder.

With BLOOM's 250,880-word vocabulary the logits are the memory of training; most positions are prompt
and need none. Hidden states are gathered where labels are, then read in chunks, and each chunk's gradient
is made while its logits are there, so that they are made once. The idea of the chunks is trl's
`_chunked_cross_entropy_loss`, that of the early gradient Liger Kernel's fused linear cross-entropy (Hsu et al.,
2024). The loss runs inside the model's own forward, so that DDP sees and synchronises it.

Some families scale or cap their logits. What is known of that is held against the model's own logits before a run; one
that does something else yet has its logits made whole, at the price of memory.
"""

from __future__ import annotations

import contextlib
import types
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.modeling_outputs import CausalLMOutput

from train.data.encoded import IGNORED

CHUNK = 64  # positions whose logits exist at once: 64 × 250,880 float32 are 64 MB
CHUNK_CUDA = 256  # there fewer would wait for the head's weights to be read, again for each chunk


@dataclass(frozen=True)
class Head:
    """What turns hidden states into logits: (vocabulary, hidden) weight and maybe a bias, then a scale, then a cap:
    cap · tanh(logits / cap). All frozen, as LoRA leaves it."""

    weight: Tensor
    bias: Tensor | None = None
    scale: float = 1.0
    cap: float | None = None

    @classmethod
    def of(cls, model: Any) -> Head:
        config, head = model.config.get_text_config(), model.get_output_embeddings()
        scale = getattr(config, "logit_scale", None) or 1 / (getattr(config, "logits_scaling", None) or 1)
        cap = getattr(config, "final_logit_softcapping", None)
        return cls(head.weight, getattr(head, "bias", None), float(scale), float(cap) if cap else None)

    def logits(self, states: Tensor) -> Tensor:
        """In float32."""
        found = F.linear(states, self.weight, self.bias).float()
        found = found if self.scale == 1 else found * self.scale
        return self.cap * torch.tanh(found / self.cap) if self.cap else found


class CrossEntropy(torch.autograd.Function):
    """Sum over (n, hidden) states of the cross-entropy to (n,) targets, in float32: only the states get a gradient."""

    @staticmethod
    def forward(ctx, states: Tensor, targets: Tensor, head: Head) -> Tensor:
        total, gradient = torch.zeros((), device=states.device), torch.empty_like(states)
        if torch.is_autocast_enabled(states.device.type):  # which would cast the whole head for every product
            head = replace(head, weight=head.weight.to(torch.get_autocast_dtype(states.device.type)))
        chunk = CHUNK_CUDA if states.is_cuda else CHUNK
        for part, goal, into in zip(*(t.split(chunk) for t in (states, targets, gradient)), strict=True):
            logits, goal = head.logits(part), goal[:, None]
            norm = logits.logsumexp(-1, keepdim=True)
            total += (norm - logits.gather(-1, goal)).sum()
            if ctx.needs_input_grad[0]:
                slope = 1 - (logits / head.cap) ** 2 if head.cap else None
                chances = logits.sub_(norm).exp_()  # in place: another copy would be half of the memory
                chances.scatter_add_(-1, goal, chances.new_full(goal.shape, -1.0))
                chances = chances if slope is None else chances * slope
                found = chances.to(head.weight.dtype) @ head.weight
                into.copy_(found if head.scale == 1 else found * head.scale)
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    def backward(ctx, above: Tensor) -> tuple[Tensor, None, None]:
        return ctx.saved_tensors[0] * above, None, None


def taught_places(labels: Tensor) -> Tensor:
    """(n,) int64: the positions of a flattened (rows, length) batch whose next id is taught."""
    return F.pad(labels[:, 1:] != IGNORED, (0, 1)).flatten().nonzero()[:, 0]


def gathered(values: Tensor, labels: Tensor, taught: Tensor | None) -> tuple[Tensor, Tensor]:
    """(n, …) of (rows, length, …) values, where an id is taught, and the (n,) ids.

    `taught`: `taught_places`, by whoever has the labels on the host: a GPU that finds them has to be waited for, as
    nobody knows before how many they are.
    """
    taught = taught_places(labels) if taught is None else taught
    return values.flatten(0, 1).index_select(0, taught), labels.flatten().index_select(0, taught + 1)


def mean(total: Tensor, targets: Tensor, items: Tensor | int | None) -> Tensor:
    """Divided by `items` where given: gradient accumulation counts over several batches."""
    return total / (max(1, len(targets)) if items is None else items)


def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, *, labels: Tensor,
            taught: Tensor | None = None, num_items_in_batch: Tensor | int | None = None,
            **_: object) -> CausalLMOutput:
    """A decoder's forward for training: the mean cross-entropy to the labels one position on, without the logits."""
    states, targets = gathered(states_of(self, input_ids, attention_mask), labels, taught)
    return CausalLMOutput(loss=mean(CrossEntropy.apply(states, targets, Head.of(self)), targets, num_items_in_batch))


def whole_forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, *, labels: Tensor,
                  taught: Tensor | None = None, num_items_in_batch: Tensor | int | None = None,
                  **_: object) -> CausalLMOutput:
    """The same by the model's own logits, all of them, for one whose logits are not `Head`'s."""
    whole = type(self).forward(self, input_ids=input_ids, attention_mask=attention_mask, use_cache=False).logits
    logits, targets = gathered(whole, labels, taught)
    return CausalLMOutput(loss=mean(F.cross_entropy(logits.float(), targets, reduction="sum"), targets,
                                    num_items_in_batch))


def states_of(model: Any, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
    """(rows, length, hidden) last hidden states, by the body of a model, which has no head."""
    found: Tensor = model.base_model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False)[0]
    return found


@torch.no_grad()
def gathers(model: Any) -> bool:
    """Are a model's logits what `Head` makes of its hidden states?"""
    ids = torch.arange(8, device=model.device)[None] % model.config.get_text_config().vocab_size
    try:
        own = model(input_ids=ids, use_cache=False).logits.float()
        return torch.allclose(Head.of(model).logits(states_of(model, ids)), own, rtol=1e-2, atol=1e-2)
    except (AttributeError, RuntimeError, TypeError):
        return False


def teach_answers_only(model) -> None:
    """Give this decoder the training forward above; `answering` lends it out of that."""
    model.forward = types.MethodType(forward if gathers(model) else whole_forward, model)


@contextlib.contextmanager
def answering(model) -> Iterator[None]:
    """Lend a PeftModel in training to generation: its own forward, evaluation mode, then all as before."""
    base, training = model.get_base_model(), model.training
    taught = base.__dict__.pop("forward", None)
    model.eval()
    try:
        yield
    finally:
        if taught is not None:
            base.forward = taught
        model.train(training)
