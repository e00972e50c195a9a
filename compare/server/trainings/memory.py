"""Will a training find the memory it needs? About how much it takes, and how much is free."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import psutil  # comes with accelerate

from compare.engine.interface import Facts

FLOAT32 = 4  # bytes
PROCESS = 700 << 20  # bytes: Python with torch and transformers, before any weight
CHUNK = 64  # positions whose logits exist at once in training (train/loss.py)
LOGITS = 2  # copies of them: the logits, and one while they are summed
TOKENS = 16 * 128  # of a usual step
CONTAINER = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current"))


def of_training(facts: Facts) -> int:
    """Bytes, about, that a LoRA training of a base takes at a usual step: weights in float32 and what a step keeps, for
    each token what goes into and comes out of every linear layer, and each block's own. Worked out, not measured.
    """
    shape, widths = facts.shape, sum(kind.widths for kind in facts.linears.values())
    logits = LOGITS * CHUNK * shape.vocab_size
    states = TOKENS * (widths + shape.n_layer * shape.hidden_size)
    return PROCESS + FLOAT32 * (facts.parameters + logits + states)


def free(device: str) -> int:
    """Bytes that a new process can take: of the GPU where it is one, else of this machine or container."""
    if device.startswith("cuda"):
        return free_on_gpu(int(device.partition(":")[2] or 0))
    found = psutil.virtual_memory().available
    try:
        most, used = (int(path.read_text()) for path in CONTAINER)
        return min(found, max(0, most - used))
    except (OSError, ValueError):  # no such container, or one without a limit ("max")
        return found


def free_on_gpu(index: int) -> int:
    """Bytes, of the GPU with that number among those this process sees; more than any training takes where the driver
    does not say, as the training itself will."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    gpu = visible[index] if index < len(visible) and visible[0] else str(index)
    command = ["nvidia-smi", f"--id={gpu}", "--query-gpu=memory.free", "--format=csv,noheader,nounits"]
    try:
        return int(subprocess.run(command, capture_output=True, timeout=30, check=True).stdout.split()[0]) << 20
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return 1 << 60
