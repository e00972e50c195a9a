"""What a run will do, foretold before its first step: what will not work, with the option that mends it; epochs,
memory and time."""

from __future__ import annotations

import time
from dataclasses import dataclass
from math import ceil, prod
from typing import TYPE_CHECKING

from lens.base.files import BaseFiles
from lens.errors import Note
from lens.gpu_memory import gpu_memory, in_gb, shared_gpu
from train.data.dataset import Dataset
from train.loss import CHUNK
from train.record.log import in_time
from train.settings import TrainSettings

if TYPE_CHECKING:  # it brings torch
    from lens.base.loading import Compute

MANY_EPOCHS = 30  # above which rows are more likely learnt by heart than learnt from
CALM = ("run-epochs", "run-time")  # notes that are no warnings
PARTS_OF_PEAK = 3  # a real step reaches about a third of the speed of one large product
HIDDEN, HEADS = ("hidden_size", "n_embed", "n_embd"), ("n_head", "num_attention_heads")
LAYERS = ("n_layer", "num_hidden_layers")


@dataclass(frozen=True)
class Plan:
    """The size of a run: rows a step over all processes, and steps."""

    rows: int
    rows_a_step: int
    steps: int

    @classmethod
    def of(cls, s: TrainSettings, rows: int, processes: int) -> Plan:
        """With `--epochs`, as many steps as those take."""
        a_step = s.batch * s.gradient_accumulation * processes
        return cls(rows, a_step, max(1, ceil(s.epochs * rows / a_step)) if s.epochs else s.max_steps)

    @property
    def epochs(self) -> float:
        """How often each row is seen."""
        return self.steps * self.rows_a_step / self.rows


def forecast(s: TrainSettings, data: Dataset, plan: Plan) -> list[Note]:
    """What the rows and settings will make of each other."""
    return [*about_length(s, data), *about_rows(data), *about_steps(s, plan)]


def about_length(s: TrainSettings, data: Dataset) -> list[Note]:
    """Rows that --max-length cuts, or that were left out for it."""
    encoded, said = data.encoded, []
    longest, cut = max(encoded.lengths, default=0), encoded.cut(s.max_length)
    if cut:
        lost = sum(length - s.max_length for length in encoded.lengths if length > s.max_length)
        said.append(Note("rows-all-cut" if cut == len(encoded) else "rows-cut", cut=cut, rows=len(encoded), tokens=lost,
                         max_length=s.max_length, longest=longest))
    if encoded.endings_lost and not s.whole_text:
        said.append(Note("endings-lost", count=encoded.endings_lost, longest=longest))
    if encoded.dropped:
        said.append(Note("rows-dropped", count=encoded.dropped, max_length=s.max_length))
    return said


def about_rows(data: Dataset) -> list[Note]:
    """Rows that say again what others say, or something else, or what is held out."""
    said = []
    if count := data.rows.duplicates:
        said.append(Note("rows-repeated", count=count))
    if rows := data.contradictions:
        said.append(Note("rows-contradict", count=len(rows), question=repr(rows[0].input[:60]), where=rows[0].where))
    if rows := data.leaked:
        said.append(Note("held-out-taught", count=len(rows), rows=len(data.eval_rows),
                         question=repr(rows[0].input[:60])))
    return said


def about_steps(s: TrainSettings, plan: Plan) -> list[Note]:
    """Epochs, and a warm-up that is longer than the run."""
    code = "run-epochs-many" if plan.epochs > MANY_EPOCHS else "run-epochs"
    said = [Note(code, steps=plan.steps, rows_a_step=plan.rows_a_step, rows=plan.rows, epochs=round(plan.epochs, 1))]
    if s.warmup_steps >= plan.steps > 1:
        said.append(Note("warm-up-too-long", warmup=s.warmup_steps, steps=plan.steps, better=plan.steps // 10))
    return said


def sizes(files: BaseFiles) -> tuple[int, int, int, int]:
    """(hidden size, heads, layers, words) of a base, from its config.json."""
    config = {**files.config, **(files.config.get("text_config") or {})}
    hidden, heads, layers = (next((config[n] for n in names if n in config), 0) for names in (HIDDEN, HEADS, LAYERS))
    return hidden, heads, layers, config.get("vocab_size", 0)


def parameters(files: BaseFiles) -> int:
    hidden, _, layers, words = sizes(files)
    return sum(prod(t.shape) for t in files.tensors.values()) or 12 * layers * hidden * hidden + words * hidden


def memory_needed(s: TrainSettings, data: Dataset, files: BaseFiles, width: int) -> int:
    """About how many bytes a run takes; `width`: of a number, 4 for float32.

    Activations by Korthikanti et al. (2022), "Reducing Activation Recomputation in Large Transformer Models".
    """
    hidden, heads, layers, words = sizes(files)
    length = max(data.encoded.cut_lengths(), default=0)
    a_layer = length * s.batch * hidden * (17 + 2.5 * heads * length / max(1, hidden)) * width
    kept = a_layer + layers * length * s.batch * hidden * width if s.activation_checkpointing else layers * a_layer
    return round(parameters(files) * width + kept + 3 * CHUNK * words * 4)


def seconds_a_step(s: TrainSettings, data: Dataset, files: BaseFiles, compute: Compute) -> float:
    """About how long a step takes, by the speed of one product of the model's size measured here."""
    import torch

    hidden, _, _, words = sizes(files)
    rows = len(data.encoded)
    tokens, learnt = len(data.encoded.ids) / rows, data.encoded.learnt / rows
    one = torch.randn(256, hidden, device=compute.device, dtype=compute.dtype)
    two = torch.randn(hidden, 4 * hidden, device=compute.device, dtype=compute.dtype)
    one @ two
    began = time.perf_counter()
    for _ in range(10):
        product = one @ two
    product[0, 0].item()  # waits for a GPU
    speed = 10 * 2 * 256 * hidden * 4 * hidden / max(time.perf_counter() - began, 1e-9)
    # Forward and backward, the latter through the frozen weights without gradients of theirs.
    body = (parameters(files) - words * hidden) * tokens * 4
    return s.batch * s.gradient_accumulation * (body + 4 * words * hidden * learnt) * PARTS_OF_PEAK / speed


def memory_here(compute: Compute) -> int:
    """Bytes that are free where the run computes."""
    if compute.device.startswith("cuda"):
        return gpu_memory(compute.device).free
    import psutil  # comes with accelerate

    return psutil.virtual_memory().available


def about_machine(s: TrainSettings, data: Dataset, files: BaseFiles, compute: Compute, plan: Plan) -> list[Note]:
    """Memory that this machine does not have, and the time that the run will take."""
    said = []
    needed, here = memory_needed(s, data, files, compute.dtype.itemsize), memory_here(compute)
    if needed > here:
        said.append(Note("memory-short", needed=in_gb(needed), here=in_gb(here), device=compute.device,
                         better=max(1, s.batch // 2)))
        if shared := shared_gpu(compute.device):
            said.append(Note("gpu-shared", **shared))
    return [*said, Note("run-time", time=in_time(seconds_a_step(s, data, files, compute) * plan.steps))]
