"""Attach LoRA to a decoder, count what it adds, and choose how the decoder attends while it learns."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

from lens.adapter.fit import Fit
from lens.base.linear_layers import describe, has_transposed_layers
from lens.errors import BadSetting
from train.data.encoded import EncodedRows

if TYPE_CHECKING:  # it brings torch, and a wrong setting is told without
    from lens.base.loading import Compute

DEFAULT = "default"  # of --target-modules: what PEFT puts LoRA on in that family
KINDS = ("attention", "mlp")
# Forward and backward in bfloat16 on a CPU with AMX, 8 rows × 9 heads × 64: plain products take 4.9 ms where torch's
# fused attention takes 11.9 at 78 tokens, 9.0 : 17.0 at 128, 37.7 : 29.2 at 256. In float32 the fused one is faster.
SHORT, LONGEST = 128, 256  # tokens of a mean row; of the longest, as plain products keep length² numbers


@dataclass(frozen=True)
class Counts:
    """Parameters trained and in all, the adapter's own included."""

    trainable: int
    all: int

    @property
    def share(self) -> float:
        """Trainable over all, 0 to 1."""
        return self.trainable / self.all

    def __str__(self) -> str:
        return f"trainable params: {self.trainable:,} || all params: {self.all:,} || {self.share:.2%}"


def target_modules(asked: list[str], fit: Fit) -> list[str]:
    """The short names of the linear layers that were asked for by name or kind. Raises BadSetting."""
    found: list[str] = []
    for name in asked:
        named = {"all-linear": fit.names, DEFAULT: defaults(fit) if name == DEFAULT else (), **fit.kinds}.get(name)
        named = named or tuple(short for short in fit.names if f".{short}".endswith(f".{name}"))
        if not named:
            raise BadSetting("train-target-modules", name=repr(name[:80]),
                             allowed=", ".join([*fit.names, *KINDS, "all-linear", DEFAULT]))
        found += [short for short in named if short not in found]
    return found


def defaults(fit: Fit) -> tuple[str, ...]:
    """PEFT's for the family; the attention's where it has none."""
    from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as THEIRS

    named: Any = THEIRS.get(fit.family)
    known = [short for short in fit.names if isinstance(named, list)
             and any(f".{short}".endswith(f".{name}") for name in named)]
    return tuple(known) or fit.kinds["attention"] or fit.names


def attach_lora(model, *, r: int, lora_alpha: int, lora_dropout: float, target_modules: list[str],
                use_rslora: bool = False):
    """A PeftModel over `model`: A random, B zero, so every logit is still the base's.

    Source: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models" (2021).
    """
    from peft import LoraConfig, TaskType, get_peft_model

    return get_peft_model(model, LoraConfig(
        task_type=TaskType.CAUSAL_LM, r=r, lora_alpha=lora_alpha, lora_dropout=lora_dropout,
        target_modules=peft_targets(model, target_modules), use_rslora=use_rslora, bias="none",
        fan_in_fan_out=has_transposed_layers(model)))


def peft_targets(model, names: list[str]) -> list[str]:
    """The names as PEFT is given them: whole ones where short ones would mean layers outside of the blocks too.
    Raises BadSetting for a name that is no linear layer of this model."""
    layers = describe(model)
    if odd := [name for name in names if name not in layers.names]:
        raise BadSetting("train-target-modules", name=repr(odd[0][:80]), allowed=", ".join(layers.names))
    meant = [name for name, layer in layers.by_name.items() if layer.short in names]
    others = [name for name, module in model.named_modules() if hasattr(module, "weight") and name not in meant]
    outside = any(f".{other}".endswith(f".{name}") for other in others for name in names)
    return meant if outside else list(names)


def attend_plainly_where_faster(model: Any, compute: Compute, rows: EncodedRows) -> None:
    """Give a model plain products for attention where its rows are short and it computes in bfloat16 on a CPU."""
    lengths = rows.cut_lengths()
    if (compute.device == "cpu" and compute.dtype_name == "bfloat16" and fmean(lengths) <= SHORT
            and max(lengths) <= LONGEST):
        model.set_attn_implementation("eager")
