"""Attach LoRA to a BLOOM and count what it adds."""

from __future__ import annotations

from dataclasses import dataclass

from lens.adapter.config import LINEAR_LAYERS
from lens.errors import BadSetting


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


def check_target_modules(names: list[str]) -> None:
    """Raises BadSetting for a name that is no linear layer of BLOOM."""
    for name in names:
        if name not in LINEAR_LAYERS:
            raise BadSetting("train-target-modules", name=repr(name[:80]), allowed=", ".join(LINEAR_LAYERS))


def attach_lora(model, *, r: int, lora_alpha: int, lora_dropout: float, target_modules: list[str],
                use_rslora: bool = False):
    """A PeftModel over `model`: A random, B zero, so every logit is still the base's.

    Source: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models" (2021).
    """
    from peft import LoraConfig, TaskType, get_peft_model

    check_target_modules(target_modules)
    return get_peft_model(model, LoraConfig(
        task_type=TaskType.CAUSAL_LM, r=r, lora_alpha=lora_alpha, lora_dropout=lora_dropout,
        target_modules=list(target_modules), use_rslora=use_rslora, bias="none"))


def count_parameters(model) -> Counts:
    trainable, total = model.get_nb_trainable_parameters()
    return Counts(trainable, total)
