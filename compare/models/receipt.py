"""Proof, at load, that an adapter is what it says and that the base column is the base.

What is proved, on a fixed probe: the file's weights are on the model; the adapted row differs from the base row; the
base row is the base as it was before any adapter came, and as PEFT's `disable_adapter()` gives it. The engine calls
`base_logits` before it attaches and `receipt` after.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from compare.engine.interface import BASE, Variant
from lens.adapter.directory import AdapterFiles
from lens.adapter.weights import load_weights
from lens.base.linear_layers import layers_by_name
from lens.errors import BadAdapter, LensError

if TYPE_CHECKING:
    from compare.models.loaded_model import LoadedModel

PROBE = 16  # tokens
# The engine's own arithmetic adds in another order than transformers'. Allowed, as a share of the largest logit:
# so many times the dtype's epsilon (measured: 1.3 in bf16, 1.9 in fp16), and in float32 at least this share (1e-6).
EPSILONS, SHARE = 8, 2e-5
MANY_TOKENS = 10**9  # work for all threads


@dataclass(frozen=True)
class Receipt:
    """One adapter's proof.

    `modules`: linear layers changed; `keys_matched` and `keys_refused`: the file's tensors that are on the model
    with just these values, and the others; `nonzero_b`: B matrices that are not all zero; `max_logit_change`:
    largest |adapted - base| on the probe, None where a logit is not finite; `base_difference`: largest
    |base row - untouched base|, None likewise. `base_exact`: `base_difference` is rounding, and bit for bit the base
    row is beside an adapted row what it is beside another base row, and `disable_adapter()` the untouched base.
    """

    adapter: str
    sha256: str
    rank: int
    modules: int
    keys_matched: int
    keys_refused: int
    nonzero_b: int
    max_logit_change: float | None
    base_difference: float | None
    base_exact: bool

    @property
    def changes_anything(self) -> bool:
        return self.max_logit_change is None or self.max_logit_change > 0

    @property
    def problem(self) -> BadAdapter | None:
        """What is wrong with this adapter, with the next step; None where nothing is."""
        keys = self.keys_matched + self.keys_refused
        if self.keys_refused:
            reason = LensError("receipt-keys-refused", refused=self.keys_refused, keys=keys)
        elif self.base_difference is None:
            reason = LensError("receipt-base-not-finite")
        elif not self.nonzero_b:
            reason = LensError("receipt-all-zero")
        elif self.max_logit_change is None:
            reason = LensError("receipt-not-finite")
        elif not self.changes_anything:
            reason = LensError("receipt-lost-in-rounding", nonzero=self.nonzero_b)
        elif not self.base_exact:
            reason = LensError("receipt-base-not-exact", difference=self.base_difference)
        else:
            return None
        return BadAdapter("adapter-no-good", adapter=self.adapter, reason=reason)

    def check(self) -> None:
        """Raises BadAdapter for an adapter that changes nothing."""
        if self.problem and not self.changes_anything:
            raise self.problem

    def as_dict(self) -> dict[str, Any]:
        """The contract's fields, and `adapter`, `base_difference` and `problem`."""
        return {**asdict(self), "changes_anything": self.changes_anything,
                "problem": str(self.problem) if self.problem else None}


def probe_ids(vocab_size: int) -> list[int]:
    """The fixed probe: ids spread over the vocabulary, the same for every adapter of a base."""
    return [(7919 * (i + 1)) % vocab_size for i in range(PROBE)]


@torch.inference_mode()
def base_logits(model: Any) -> Tensor:
    """(probe, vocabulary) float32 logits of a base by transformers' own forward."""
    ids = torch.tensor([probe_ids(model.config.vocab_size)], device=model.device)
    logits: Tensor = model(input_ids=ids, use_cache=False).logits[0].float()
    return logits


def receipt(engine: LoadedModel, files: AdapterFiles, before: Tensor) -> Receipt:
    """Of the adapter `files` on the engine; `before`: `base_logits` of the base before any adapter was attached.

    Call it while nothing else runs on the engine: it toggles PEFT's adapters off and on.
    """
    engine.decoder.use_threads(MANY_TOKENS)  # as the untouched base was read: another number rounds otherwise
    with engine.model.disable_adapter():
        off = base_logits(engine.model.get_base_model())
    engine.model.requires_grad_(False)  # PEFT turns gradients on when it leaves that context
    base, mine = BASE, Variant.of(files.name)
    probe = [probe_ids(engine.model.config.vocab_size)] * 2
    row, changed = engine.logits(engine.states(probe, [base, mine]))
    alone = engine.logits(engine.states(probe, [base, base]))[0]
    difference, size = largest(row - before), largest(before)
    allowed = size * max(EPSILONS * torch.finfo(engine.model.dtype).eps, SHARE) if difference and size else 0.0
    exact = torch.equal(off, before) and torch.equal(row, alone) and difference is not None and difference <= allowed
    return Receipt(files.name, files.sha256, files.r, **on_model(engine.model, files),
                   max_logit_change=largest(changed - row), base_difference=difference, base_exact=exact)


def largest(values: Tensor) -> float | None:
    """Largest absolute value; None where one is NaN or infinite."""
    found = values.abs().max()
    return found.item() if found.isfinite() else None


def on_model(model: Any, files: AdapterFiles) -> dict[str, int]:
    """`modules`, `keys_matched`, `keys_refused` and `nonzero_b`: the file against the model's own parameters."""
    layers, modules, matched, nonzero = layers_by_name(model), 0, 0, 0
    for name, (a, b) in load_weights(files.path, files.sites).items():
        layer = layers[name]
        on = [files.key in side and same(side[files.key].weight, value)
              for side, value in ((layer.lora_A, a), (layer.lora_B, b))]
        matched += sum(on)
        modules += all(on)
        nonzero += on[1] and bool(b.any())
    return {"modules": modules, "keys_matched": matched, "keys_refused": 2 * len(files.sites) - matched,
            "nonzero_b": nonzero}


def same(there: Tensor, value: Tensor) -> bool:
    return there.shape == value.shape and torch.equal(there.cpu(), value.to(there.dtype))
