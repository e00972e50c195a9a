"""Cross-entropy on taught positions alone, gathered before `lm_head`.

With BLOOM's 250,880-word vocabulary the logits are the memory of training; most positions are prompt
and need none. Hidden states are gathered where labels are, then read in chunks, each chunk's logits
recomputed in the backward pass. The idea is trl's `_chunked_cross_entropy_loss`. The loss runs inside
the model's own forward, so that DDP sees and synchronises it. Knows nothing of data.
"""

from __future__ import annotations

import contextlib
import types
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers.modeling_outputs import CausalLMOutput

from train.encoded import IGNORED

CHUNK = 256  # positions whose logits exist at once: 256 × 250,880 float32 are 257 MB


def chunk_loss(states: Tensor, targets: Tensor, lm_head: torch.nn.Module) -> Tensor:
    """Sum over (n, hidden) states of the cross-entropy to (n,) targets, in float32."""
    return F.cross_entropy(lm_head(states).float(), targets, reduction="sum")


def taught_loss(hidden: Tensor, labels: Tensor, lm_head: torch.nn.Module,
                num_items_in_batch: Tensor | int | None = None) -> Tensor:
    """Mean cross-entropy of (rows, length, hidden) states to the labels one position on.

    Divided by `num_items_in_batch` where given (gradient accumulation counts over several batches).
    """
    taught = labels[:, 1:] != IGNORED
    states, targets = hidden[:, :-1][taught], labels[:, 1:][taught]
    total = states[:0].float().sum()  # a zero with a gradient, where nothing is taught
    for part, goal in zip(states.split(CHUNK), targets.split(CHUNK), strict=True):
        total = total + checkpoint(chunk_loss, part, goal, lm_head, use_reentrant=False)
    return total / (max(1, len(targets)) if num_items_in_batch is None else num_items_in_batch)


def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, labels: Tensor | None = None,
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
