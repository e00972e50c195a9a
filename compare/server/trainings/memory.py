"""Will a training find the memory it needs? About how much it takes, and how much is free."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import psutil  # comes with accelerate

from compare.engine.interface import Shape

FLOAT32 = 4  # bytes
PROCESS = 700 << 20  # bytes: Python with torch and transformers, before any weight
CHUNK = 64  # positions whose logits exist at once in training (train/loss.py)
LOGITS = 2  # copies of them: the logits, and one while they are summed
TOKENS = 16 * 128  # of a usual step
PER_STATE = 17  # values kept for the backward pass, for each hidden value, layer and token, attention's scores apart
CONTAINER = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current"))


def of_training(parameters: int, shape: Shape) -> int:
    """Bytes, about, that a LoRA training of a BLOOM takes at a usual step: weights in float32 and what a step keeps.

    `shape`: the base's. Worked out, not measured.
    """
    logits = LOGITS * CHUNK * shape.vocab_size
    states = TOKENS * shape.n_layer * shape.hidden_size * PER_STATE
    return PROCESS + FLOAT32 * (parameters + logits + states)


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
