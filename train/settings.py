"""What a training run can be told, and the two recipes. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from train.config import positive, setting, share

ASSETS = Path(__file__).resolve().parent.parent / "assets"
EMBEDDED_BASE = str(ASSETS / "base")
EMBEDDED_ROWS = str(ASSETS / "hit_qa" / "train.jsonl")


@dataclass
class TrainSettings:
    output: str = setting("", "adapter directory to write; must be new or empty")
    base: str = setting(EMBEDDED_BASE, "base model: a directory, or a name such as bigscience/bloom-1b1")
    data: list[str] = setting([EMBEDDED_ROWS], "files of rows, .jsonl or .json")
    recipe: Literal["lens", "seed"] = setting("lens", "table of defaults; seed is the original experiment's")
    max_steps: int = setting(1000, "optimizer steps", "steps", positive, "above 0")
    batch: int = setting(16, "rows a step", "rows", positive, "above 0")
    learning_rate: float = setting(1e-3, "peak learning rate", "", positive, "above 0")
    warmup_steps: int = setting(100, "steps of linear warm-up", "steps", lambda v: v >= 0, "0 or more")
    schedule: Literal["linear", "cosine", "constant"] = setting("cosine", "how the rate falls after warm-up")
    max_length: int = setting(256, "tokens a row is cut to", "tokens", lambda v: v >= 8, "8 or more")
    r: int = setting(8, "rank of the LoRA matrices", "", lambda v: 1 <= v <= 1024, "1 to 1024")
    lora_alpha: int = setting(8, "the update is scaled by alpha / r", "", positive, "above 0")
    lora_dropout: float = setting(0.05, "dropout before A", "0 to 1", share, "0 to 1")
    use_rslora: bool = setting(False, "scale by alpha / sqrt(r) instead (Kalajdzievski 2023)")
    target_modules: list[str] = setting(["query_key_value"], "linear layers that get LoRA")
    whole_text: bool = setting(False, "loss on the prompt as well as on the answer")
    ending: str = setting("</s>", "what an answer ends with")
    save_steps: int = setting(200, "steps between checkpoint-N directories", "steps", positive, "above 0")
    logging_steps: int = setting(10, "steps between losses on screen", "steps", positive, "above 0")
    device: Literal["auto", "cpu", "cuda"] = setting("auto", "auto: a GPU when there is one")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = setting(
        "auto", "auto: float32 on CPU, bfloat16 on GPUs that have it, else float16")
    seed: int = setting(0, "of LoRA's A, dropout and the order of rows")
    resume: bool = setting(False, "go on from the last checkpoint in --output")


# What each recipe changes in the defaults above. `seed` is the experiment this project grew from.
RECIPES: dict[str, dict[str, Any]] = {
    "lens": {},
    "seed": {"batch": 1, "learning_rate": 1e-4, "schedule": "linear", "whole_text": True,
             "ending": "<|endofutterance|>\n"},
}
