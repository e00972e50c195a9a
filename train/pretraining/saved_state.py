"""What a pretraining run needs to go on after a kill: one file, replaced atomically, never unpickled."""

from __future__ import annotations

import time
from pathlib import Path


class State:
    """What a run needs to go on: weights, both optimizers, step. One file, replaced atomically."""

    def __init__(self, path: Path, model, opts: list):
        self.path, self.model, self.opts, self.saved_at = path, model, opts, time.monotonic()

    def save(self, step: int) -> None:
        import torch

        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_suffix(".part")
        torch.save({"step": step, "model": self.model.state_dict(),
                    "opts": [o.state_dict() for o in self.opts]}, part)
        part.replace(self.path)
        self.saved_at = time.monotonic()

    def load(self) -> int:
        """The step to go on from; 0 when nothing was saved. The file is our own, and never unpickled."""
        import torch

        if not self.path.is_file():
            return 0
        kept = torch.load(self.path, weights_only=True, map_location="cpu")
        self.model.load_state_dict(kept["model"])
        for opt, state in zip(self.opts, kept["opts"], strict=True):
            opt.load_state_dict(state)
        return kept["step"]
