"""`log.jsonl`: what a run measures, a JSON object a line, written as it goes.

A record has `step` and some of `loss`, `learning_rate`, `tokens_per_second` (padding not counted; the
time of steps alone), `memory` (bytes: the process's resident set, on a GPU the peak of torch's
allocations since the record before) and `eval_loss` (held-out rows).
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from pathlib import Path

from transformers import TrainerCallback

from lens.errors import BadInput
from lens.strict_json import dumps


def read_log(path: Path) -> list[dict]:
    """The records; a last line cut short by a kill is left out."""
    records = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records


def keep_until(path: Path, step: int) -> None:
    """Drop the records after `step`: a resumed run makes them again."""
    if not path.is_file():
        return
    kept = [record for record in read_log(path) if record["step"] <= step]
    part = path.with_suffix(".part")
    part.write_text("".join(dumps(r) + "\n" for r in kept), encoding="utf-8")
    os.replace(part, path)


def append(path: Path, record: dict) -> None:
    """One record, on disk before this returns."""
    with path.open("a", encoding="utf-8") as file:
        file.write(dumps(record) + "\n")


def memory_in_use(device: str) -> int:
    """Bytes: this process's resident set, or on a GPU the peak of allocations since the last call."""
    if device == "cuda":
        import torch

        peak = torch.cuda.max_memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        return peak
    import psutil  # comes with accelerate

    return psutil.Process().memory_info().rss


class Log(TrainerCallback):
    """Writes `log.jsonl` beside Trainer's own reports; stops a run whose loss is no number."""

    def __init__(self, path: Path, device: str):
        self.path, self.device = path, device
        self.began = self.seconds = 0.0
        self.tokens = 0

    def on_train_begin(self, args, state, control, **_):
        self.tokens = state.num_input_tokens_seen

    def on_step_begin(self, args, state, control, **_):
        self.began = time.perf_counter()

    def on_step_end(self, args, state, control, **_):
        self.seconds += time.perf_counter() - self.began
        if control.should_save:  # so that a run resumed there averages its losses over the same steps
            control.should_log = True

    def on_log(self, args, state, control, logs=None, **_):
        logs = logs or {}
        record = {k: logs[k] for k in ("loss", "learning_rate", "eval_loss") if k in logs}
        if bad := [k for k, v in record.items() if not math.isfinite(v)]:
            raise BadInput(f"{bad[0]} is {record[bad[0]]} at step {state.global_step}; lower --learning-rate or raise "
                           "--warmup-steps, then go on from the last checkpoint with --resume or start anew")
        if not record or not state.is_world_process_zero:
            return
        if "loss" in record:
            tokens, self.tokens = state.num_input_tokens_seen - self.tokens, state.num_input_tokens_seen
            record["tokens_per_second"] = round(tokens / max(self.seconds, 1e-9), 1)
            self.seconds = 0.0
        record["memory"] = memory_in_use(self.device)
        append(self.path, {"step": state.global_step, **record})
        print(f"step {state.global_step} of {state.max_steps}: {in_words(record)}", file=sys.stderr, flush=True)


def in_words(record: dict) -> str:
    """A record as one short line."""
    shown = {"loss": "loss {:.4f}", "eval_loss": "held-out loss {:.4f}", "learning_rate": "rate {:.2e}",
             "tokens_per_second": "{:,.0f} tokens/s", "memory": "memory {:,.0f} bytes"}
    return ", ".join(form.format(record[key]) for key, form in shown.items() if key in record)
