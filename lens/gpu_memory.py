"""A GPU's memory: what is free, and what other programs hold of it, which a refusal for want of memory must name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

CONTEXT = 1 << 30  # bytes that CUDA itself takes for a process, at most; torch does not count them


@dataclass(frozen=True)
class GpuMemory:
    """Bytes: free, in all, and what torch holds in this process."""

    free: int
    total: int
    ours: int

    @property
    def others(self) -> int:
        """About what other programs hold; 0 where that may be this one's own CUDA."""
        held = self.total - self.free - self.ours
        return held if held > CONTEXT else 0


def gpu_memory(device: Any) -> GpuMemory:
    import torch

    return GpuMemory(*torch.cuda.mem_get_info(device), torch.cuda.memory_reserved(device))


def shared_gpu(device: Any) -> dict[str, str]:
    """The values of the sentences about a GPU that other programs hold memory of; none where nobody does, or it is no
    GPU."""
    import torch

    if torch.device(device).type != "cuda" or not (found := gpu_memory(device)).others:
        return {}
    return {"others": in_gb(found.others), "total": in_gb(found.total), "free": in_gb(found.free)}


def in_gb(size: int, places: int = 1) -> str:
    return f"{size / 1e9:.{places}f} GB"
