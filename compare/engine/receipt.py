"""Proof, at load, that an adapter is what it says and that the base column is the base.

What is proved, on a fixed probe: the file's weights are on the model; the adapted row differs from the base row; the
base row is the base as it was before any adapter came, and as PEFT's `disable_adapter()` gives it. The engine calls
`base_logits` before it attaches and `receipt` after.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from compare.engine.interface import BASE, Variant

PROBE = 16  # tokens
# The engine's own arithmetic adds in another order than transformers'. Allowed, as a share of the largest logit:
# so many times the dtype's epsilon (measured: 1.3 in bf16, 1.9 in fp16), and in float32 at least this share (1e-6).
EPSILONS, SHARE = 8, 2e-5


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
    def problem(self) -> str | None:
        """What is wrong with this adapter, in a sentence with the next step; None where nothing is."""
        keys = self.keys_matched + self.keys_refused
        if self.keys_refused:
            what = f"{self.keys_refused} of its {keys} tensors are not on this base; use the base it was trained on"
        elif self.base_difference is None:
            what = "the base's own logits are NaN or infinite, before any adapter; try float32"
        elif not self.nonzero_b:
            what = ("changes nothing: every B matrix is zero, as before the first step of training; "
                    "train it, or choose a later checkpoint")
        elif self.max_logit_change is None:
            what = "its logits are NaN or infinite; try float32, or train it again at a lower learning rate"
        elif not self.changes_anything:
            what = (f"changes nothing: {self.nonzero_b} B matrices are not zero, but no logit moved on the probe; "
                    "its update is lost in rounding; try float32, or train it longer")
        elif not self.base_exact:
            what = (f"the base row is not the untouched base (largest difference {self.base_difference:.3g}); "
                    "do not trust its comparisons, and report this")
        else:
            return None
        return f"adapter {self.adapter}: {what}"

    def as_dict(self) -> dict:
        """The contract's fields, and `adapter`, `base_difference` and `problem`."""
        return {**asdict(self), "changes_anything": self.changes_anything, "problem": self.problem}


def probe_ids(vocab_size: int) -> list[int]:
    """The fixed probe: ids spread over the vocabulary, the same for every adapter of a base."""
    return [(7919 * (i + 1)) % vocab_size for i in range(PROBE)]


@torch.inference_mode()
def base_logits(model) -> Tensor:
    """(probe, vocabulary) float32 logits of a BloomForCausalLM by transformers' own forward."""
    ids = torch.tensor([probe_ids(model.config.vocab_size)], device=model.device)
    return model(input_ids=ids, use_cache=False).logits[0].float()


def receipt(engine, files, before: Tensor) -> Receipt:
    """Of the adapter `files` on the engine; `before`: `base_logits` of the base before any adapter was attached.

    Call it while nothing else runs on the engine: it toggles PEFT's adapters off and on.
    """
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


def on_model(model, files) -> dict[str, int]:
    """`modules`, `keys_matched`, `keys_refused` and `nonzero_b`: the file against the model's own parameters."""
    from peft.utils import load_peft_weights

    parameters = dict(model.named_parameters())
    matched, nonzero, found = [], 0, load_peft_weights(str(files.path), device="cpu")
    for key, value in found.items():
        there = parameters.get(key.replace(".weight", f".{files.name}.weight"))
        if there is None or there.shape != value.shape or not torch.equal(there.cpu(), value.to(there.dtype)):
            continue
        matched.append(key)
        nonzero += ".lora_B." in key and bool(there.any())
    return {"modules": len(modules(matched)), "keys_matched": len(matched),
            "keys_refused": len(found) - len(matched), "nonzero_b": nonzero}


def modules(keys: Iterable[str]) -> set[str]:
    """The layers of which both A and B are among the keys."""
    sides = [{key.split(f".lora_{side}.")[0] for key in keys if f".lora_{side}." in key} for side in "AB"]
    return sides[0] & sides[1]
