"""Cross-entropy on taught positions alone, gathered before `lm_head`.

With BLOOM's 250,880-word vocabulary the logits are the memory of training; most positions are prompt
and need none. Hidden states are gathered where labels are, then read in chunks, and each chunk's gradient
is made while its logits are there, so that they are made once. The idea of the chunks is trl's
`_chunked_cross_entropy_loss`, that of the early gradient Liger Kernel's fused linear cross-entropy (Hsu et al.,
2024). The loss runs inside the model's own forward, so that DDP sees and synchronises it.
"""

from __future__ import annotations

import contextlib
import types
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.modeling_outputs import CausalLMOutput

from train.data.encoded import IGNORED

CHUNK = 64  # positions whose logits exist at once: 64 × 250,880 float32 are 64 MB
CHUNK_CUDA = 256  # there fewer would wait for the head's weights to be read, again for each chunk


class CrossEntropy(torch.autograd.Function):
    """Sum over (n, hidden) states of the cross-entropy to (n,) targets, in float32, by an `lm_head` weight
    (vocabulary, hidden) that is frozen, as LoRA leaves it: only the states get a gradient."""

    @staticmethod
    def forward(ctx, states: Tensor, targets: Tensor, weight: Tensor) -> Tensor:
        total, gradient = torch.zeros((), device=states.device), torch.empty_like(states)
        if torch.is_autocast_enabled(states.device.type):  # which would cast the whole head for every product
            weight = weight.to(torch.get_autocast_dtype(states.device.type))
        chunk = CHUNK_CUDA if states.is_cuda else CHUNK
        for part, goal, into in zip(*(t.split(chunk) for t in (states, targets, gradient)), strict=True):
            logits, goal = F.linear(part, weight).float(), goal[:, None]
            norm = logits.logsumexp(-1, keepdim=True)
            total += (norm - logits.gather(-1, goal)).sum()
            if ctx.needs_input_grad[0]:
                chances = logits.sub_(norm).exp_()  # in place: another copy would be half of the memory
                chances.scatter_add_(-1, goal, chances.new_full(goal.shape, -1.0))
                into.copy_(chances.to(weight.dtype) @ weight)
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    def backward(ctx, above: Tensor) -> tuple[Tensor, None, None]:
        return ctx.saved_tensors[0] * above, None, None


def taught_loss(hidden: Tensor, labels: Tensor, lm_head: torch.nn.Module,
                num_items_in_batch: Tensor | int | None = None) -> Tensor:
    """Mean cross-entropy of (rows, length, hidden) states to the labels one position on.

    Divided by `num_items_in_batch` where given (gradient accumulation counts over several batches).
    """
    taught = labels[:, 1:] != IGNORED
    states, targets = hidden[:, :-1][taught], labels[:, 1:][taught]
    total = CrossEntropy.apply(states, targets, lm_head.weight)
    return total / (max(1, len(targets)) if num_items_in_batch is None else num_items_in_batch)


def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, *, labels: Tensor,
            num_items_in_batch: Tensor | int | None = None, **_: object) -> CausalLMOutput:
    """BloomForCausalLM's forward for training: the loss without the logits."""
    hidden = self.transformer(input_ids, attention_mask=attention_mask, use_cache=False).last_hidden_state
    return CausalLMOutput(loss=taught_loss(hidden, labels, self.lm_head, num_items_in_batch))


def teach_answers_only(model) -> None:
    """Give this BLOOM the training forward above; `answering` lends it out of that."""
    model.forward = types.MethodType(forward, model)


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
