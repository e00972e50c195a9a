"""`training.json`: what was trained, on what, with which settings, and how it went. No path of this machine."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lens.base.files import BaseFiles
from lens.base.identity import describe_base
from lens.rows.sources import describe_source
from train.data.dataset import Dataset
from train.lora import Counts
from train.resume import CHANGES, Start
from train.settings import TrainSettings

if TYPE_CHECKING:  # it brings torch
    from lens.base.loading import Compute

# Paths, and names that are said elsewhere.
LEFT_OUT = ("output", "base", "chat_template", "data", "eval_data", "resume", "new_data", "from_adapter", "push_to_hub")


def about_rows(data: Dataset, max_length: int) -> dict[str, Any]:
    """What `training.json` says of the rows."""
    rows, encoded = data.rows, data.encoded
    return {"rows": len(rows), "rows_sha256": rows.content, "formats": dict(rows.formats),
            "skipped_rows": len(rows.skipped), "dropped_rows": encoded.dropped, "cut_rows": encoded.cut(max_length),
            "endings_lost": encoded.endings_lost, "duplicates": rows.duplicates,
            "contradictions": len(data.contradictions), "eval_rows": len(data.eval_rows),
            "eval_rows_taught": len(data.leaked)}


def name_of(device: str) -> str:
    """What the machine calls a device."""
    if not device.startswith("cuda"):
        return platform.processor() or platform.machine()
    import torch

    return torch.cuda.get_device_name(device)


@dataclass(frozen=True)
class Record:
    """What is known before the first step; `about` adds what the steps brought."""

    settings: TrainSettings
    compute: Compute
    base: dict[str, str | None]
    data: list[dict[str, str | None]]
    eval_data: list[dict[str, str | None]]
    rows: dict[str, Any]  # what is known of the rows: how many, their hash, what was cut, left out or repeated
    counts: Counts
    processes: int
    changes: tuple[dict[str, Any], ...]  # settings that a resumed run changed, with the step
    lineage: dict[str, Any] | None  # of the weights it started from
    family: str  # config.json's model_type
    chat: dict[str, object]  # how questions are asked, and answers end

    @classmethod
    def begin(cls, s: TrainSettings, compute: Compute, files: BaseFiles, data: Dataset, start: Start, *,
              counts: Counts, processes: int, chat: dict[str, object]) -> Record:
        return cls(s, compute, describe_base(files), [describe_source(d) for d in s.data],
                   [describe_source(d) for d in s.eval_data], about_rows(data, s.max_length), counts, processes,
                   start.changes, start.lineage, str(files.config.get("model_type")), chat)

    def in_force(self) -> list[dict[str, Any]]:
        """The settings that may change, as they were from each step at which one did."""
        now = {name: getattr(self.settings, name) for name in CHANGES}
        changes = [change for change in self.changes if change["setting"] in CHANGES]
        found = []
        for step in sorted({0, *(change["step"] for change in changes)}, reverse=True):
            found.append({"from_step": step, **now})
            now |= {change["setting"]: change["before"] for change in reversed(changes) if change["step"] == step}
        return found[::-1]

    def about(self, log: Sequence[dict], examples: Sequence[dict], seconds: float, step: int) -> dict:
        """`training.json`'s contents after `step`, from the records of `log.jsonl` and the last probe answers."""
        settings = {k: v for k, v in dataclasses.asdict(self.settings).items() if k not in LEFT_OUT}
        packages = ("torch", "transformers", "peft", "accelerate")
        a_step = self.settings.batch * self.settings.gradient_accumulation * self.processes
        return {
            "recipe": self.settings.recipe, "settings": settings, "in_force": self.in_force(), "steps": step,
            "rows_seen": step * a_step, "device": self.compute.device, "device_name": name_of(self.compute.device),
            "peak_memory": max((r["memory"] for r in log if "memory" in r), default=None),
            "dtype": self.compute.dtype_name, "processes": self.processes, "base": self.base,
            "family": self.family, "chat": self.chat, "data": self.data,
            **self.rows, "eval_data": self.eval_data, "changes": list(self.changes), "lineage": self.lineage,
            "parameters": {"trainable": self.counts.trainable, "all": self.counts.all},
            "losses": [{"step": r["step"], "loss": r["loss"]} for r in log if "loss" in r],
            "eval_losses": [{"step": r["step"], "loss": r["eval_loss"]} for r in log if "eval_loss" in r],
            "examples": list(examples), "seconds": round(seconds, 1),
            "versions": {"python": platform.python_version(),
                         **{name: importlib.metadata.version(name) for name in packages}},
        }
