"""`training.json`: what was trained, on what, with which settings, and how it went. No path of this machine."""

from __future__ import annotations

import dataclasses
import importlib.metadata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lens.base_files import BaseFiles
from lens.base_identity import describe_base
from lens.rows.sources import describe_source
from train.lora import Counts
from train.settings import TrainSettings

if TYPE_CHECKING:  # it brings torch
    from lens.base import Compute

LEFT_OUT = ("output", "base", "data", "eval_data", "resume", "push_to_hub")  # paths, and names said elsewhere


@dataclass(frozen=True)
class Record:
    """What is known before the first step; `about` adds what the steps brought."""

    settings: TrainSettings
    compute: Compute
    base: dict[str, str | None]
    data: list[dict[str, str | None]]
    eval_data: list[dict[str, str | None]]
    rows: int
    eval_rows: int
    skipped: int
    counts: Counts
    processes: int

    @classmethod
    def begin(cls, s: TrainSettings, compute: Compute, files: BaseFiles, *, rows: int, eval_rows: int, skipped: int,
              counts: Counts, processes: int) -> Record:
        return cls(s, compute, describe_base(files), [describe_source(d) for d in s.data],
                   [describe_source(d) for d in s.eval_data], rows, eval_rows, skipped, counts, processes)

    def about(self, log: Sequence[dict], examples: Sequence[dict], seconds: float) -> dict:
        """`training.json`'s contents, from the records of `log.jsonl` and the last probe answers."""
        settings = {k: v for k, v in dataclasses.asdict(self.settings).items() if k not in LEFT_OUT}
        packages = ("torch", "transformers", "peft", "accelerate")
        return {
            "recipe": self.settings.recipe, "settings": settings, "device": self.compute.device,
            "dtype": self.compute.dtype_name, "processes": self.processes, "base": self.base, "data": self.data,
            "rows": self.rows, "skipped_rows": self.skipped, "eval_data": self.eval_data, "eval_rows": self.eval_rows,
            "parameters": {"trainable": self.counts.trainable, "all": self.counts.all},
            "losses": [{"step": r["step"], "loss": r["loss"]} for r in log if "loss" in r],
            "eval_losses": [{"step": r["step"], "loss": r["eval_loss"]} for r in log if "eval_loss" in r],
            "examples": list(examples), "seconds": round(seconds, 1),
            "versions": {name: importlib.metadata.version(name) for name in packages},
        }
