"""`log.jsonl`: what a run measures, a JSON object a line, written as it goes; and its losses as a picture.

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
from collections.abc import Callable
from pathlib import Path

from transformers import TrainerCallback

from lens.errors import BadSetting, Note
from lens.strict_json import dumps

FIRST, DIVERGED = 5, 3  # records that say where the loss began; records far above them that end a run


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
    """Writes `log.jsonl` beside Trainer's own reports; stops a run whose loss is no number, or diverges.

    `astray`: called with the last step whose loss was sound, returns what to do next.
    """

    def __init__(self, path: Path, device: str, astray: Callable[[int], Note]):
        self.path, self.device, self.astray = path, device, astray
        self.began = self.seconds = 0.0
        self.tokens = self.high = self.sound = self.start = 0
        self.first: list[float] = []  # losses of the first records

    def on_train_begin(self, args, state, control, **_):
        state.compute_steps(args, args.max_steps)  # a checkpoint's state brings its own --logging-steps and the like
        self.tokens, self.sound, self.start = state.num_input_tokens_seen, state.global_step, state.global_step
        self.first = [r["loss"] for r in read_log(self.path) if "loss" in r][:FIRST]
        self.all_began = time.monotonic()

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
            raise BadSetting("loss-not-finite", name=bad[0], value=record[bad[0]], step=state.global_step,
                             next=self.astray(self.sound))
        if "loss" in record:
            self.watch(record["loss"], state.global_step)
        if not record or not state.is_world_process_zero:
            return
        if "loss" in record:
            tokens, self.tokens = state.num_input_tokens_seen - self.tokens, state.num_input_tokens_seen
            record["tokens_per_second"] = round(tokens / max(self.seconds, 1e-9), 1)
            self.seconds = 0.0
        record["memory"] = memory_in_use(self.device)
        append(self.path, {"step": state.global_step, **record})
        done = state.global_step - self.start
        left = (time.monotonic() - self.all_began) / max(1, done) * (state.max_steps - state.global_step)
        print(f"step {state.global_step} of {state.max_steps}: {in_words(record)}"
              + (f", {in_time(left)} left" if left and done else ""), file=sys.stderr, flush=True)

    def watch(self, loss: float, step: int) -> None:
        """Raises BadSetting where the loss has been far above what it began with for several records."""
        if len(self.first) < FIRST:
            self.first.append(loss)
        if loss <= 1.5 * max(self.first) + 1:
            self.high, self.sound = 0, step
            return
        self.high += 1
        if self.high == DIVERGED:
            raise BadSetting("loss-diverged", name="loss", value=loss, step=step, first=self.first[0],
                             next=self.astray(self.sound))


def in_time(seconds: float) -> str:
    """Seconds as people say them: `40 s`, `12 min`, `3.5 h`."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def in_words(record: dict) -> str:
    """A record as one short line."""
    shown = {"loss": "loss {:.4f}", "eval_loss": "held-out loss {:.4f}", "learning_rate": "rate {:.2e}",
             "tokens_per_second": "{:,.0f} tokens/s", "memory": "memory {:,.0f} bytes"}
    return ", ".join(form.format(record[key]) for key, form in shown.items() if key in record)


def points(records: list[dict], key: str) -> tuple[list[int], list[float]]:
    """Steps and values of the records that have `key`."""
    having = [r for r in records if key in r]
    return [r["step"] for r in having], [r[key] for r in having]


def draw_loss(records: list[dict], path: Path, title: str) -> None:
    """Draw training and held-out loss; nothing is drawn where no loss was logged."""
    draw(records, {"loss": "training", "eval_loss": "held out"}, "loss (nats per token)", path, title)


def draw(records: list[dict], keys: dict[str, str], label: str, path: Path, title: str,
         from_zero: bool = False) -> None:
    """One line a key, named by its value, into a PNG. matplotlib is imported here: it takes a second."""
    from matplotlib.figure import Figure

    if not any(key in record for record in records for key in keys):
        return
    figure = Figure(figsize=(8, 4.5), dpi=120, layout="constrained")
    axes = figure.subplots()
    for key, name in keys.items():
        steps, values = points(records, key)
        if steps:
            axes.plot(steps, values, label=name, linewidth=1.6, marker="o" if len(steps) < 30 else None, markersize=3)
    axes.set(xlabel="step", ylabel=label, title=title)
    if from_zero:
        axes.set_ylim(bottom=0)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path, format="png")
