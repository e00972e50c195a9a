"""Ctrl-C and SIGTERM during training: the step is finished, a checkpoint written, then the run ends.

A signal only sets a flag, so nothing is ever torn in mid-step; a second one stops at once. Knows
nothing of models.
"""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from lens.processes import is_first

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """The run was stopped by a signal, and its work is saved in `checkpoint`."""

    def __init__(self, step: int, checkpoint: Path):
        super().__init__(f"interrupted at step {step}, saved in {checkpoint}; "
                         "the same command with --resume goes on from there")


class StopOnSignal(TrainerCallback):
    """A context manager that catches the signals, and the callback that acts on them after a step.

    Processes of one run agree at each step: a checkpoint needs all of them.
    """

    def __init__(self):
        self.asked = False
        self.before: dict[int, Any] = {}  # signal → the handler that stood there

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():  # Python sets handlers only there
            self.before = {number: signal.signal(number, self.hear) for number in SIGNALS}
        return self

    def __exit__(self, *_):
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def hear(self, number, frame):
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        if is_first():
            print("finishing this step, then saving; Ctrl-C again stops at once", file=sys.stderr)

    def on_step_end(self, args, state, control, **_):
        agreed = self.asked
        if args.world_size > 1:
            import torch
            import torch.distributed as dist

            asked = torch.tensor(float(agreed), device=args.device)
            dist.all_reduce(asked)
            agreed = bool(asked.item())  # a signal heard meanwhile stays in `asked`, for the next step
        if agreed:
            self.asked = True
            control.should_save = control.should_log = control.should_training_stop = True
