"""Will a training find the memory it needs? About how much it takes, and how much is free. torch is imported only to
look at a GPU.
"""

from __future__ import annotations

from pathlib import Path

FLOAT32 = 4  # bytes
PROCESS = 700 << 20  # bytes: Python with torch and transformers, before any weight
CHUNK = 64  # positions whose logits exist at once in training (train/loss.py)
LOGITS = 2  # copies of them: the logits, and one while they are summed
TOKENS = 16 * 128  # of a usual step
PER_STATE = 17  # values kept for the backward pass, for each hidden value, layer and token, attention's scores apart
CONTAINER = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current"))


def of_training(parameters: int, config) -> int:
    """Bytes, about, that a LoRA training of a BLOOM takes at a usual step: weights in float32 and what a step keeps.

    `config`: the base's, for its `vocab_size`, `hidden_size` and `n_layer`. Worked out, not measured.
    """
    logits = LOGITS * CHUNK * config.vocab_size
    states = TOKENS * config.n_layer * config.hidden_size * PER_STATE
    return PROCESS + FLOAT32 * (parameters + logits + states)


def free(device: str) -> int:
    """Bytes that a new process can take: of the GPU where it is one, else of this machine or container."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.mem_get_info(device)[0]
    import psutil  # comes with accelerate

    found = psutil.virtual_memory().available
    try:
        most, used = (int(path.read_text()) for path in CONTAINER)
        return min(found, max(0, most - used))
    except (OSError, ValueError):  # no such container, or one without a limit ("max")
        return found
