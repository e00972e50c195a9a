"""What a device is and can do, and where the time of a step goes on it: for benchmarks that run on a GPU."""

from __future__ import annotations

import platform
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version

import torch

PEAK = {"H100": 989e12, "H200": 989e12, "A100": 312e12}  # dense bfloat16 FLOP/s, by the makers' data sheets (SXM)


def said(*command: str) -> str:
    """What a command printed; empty where it cannot be run."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def about(device: str) -> dict:
    """Names and versions, for whoever reads the figures later."""
    cuda = device == "cuda"
    card = torch.cuda.get_device_properties(0) if cuda else None
    return {"card": card.name if card else f"CPU, {platform.processor() or platform.machine()}",
            "bytes": card.total_memory if card else None,
            "driver": said("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader") if cuda else "",
            "torch": torch.__version__, **{name: version(name) for name in ("transformers", "peft")},
            "python": platform.python_version(), "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            "commit": said("git", "rev-parse", "--short", "HEAD"), "changed": bool(said("git", "status", "--short"))}


def finished(device: str) -> float:
    """The time, once all that was asked of the device is done."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def rate(device: str, call: Callable[[], object], amount: float, times: int = 10) -> float:
    """Amount a second, the best of three rounds."""
    call()
    best = float("inf")
    for _ in range(3):
        began = finished(device)
        for _ in range(times):
            call()
        best = min(best, (finished(device) - began) / times)
    return amount / best


def copy_rate(device: str, size: int) -> float:
    """Bytes a second that a copy within the device reads and writes, together."""
    source = torch.empty(size, dtype=torch.uint8, device=device)
    into = torch.empty_like(source)
    return rate(device, lambda: into.copy_(source), 2 * size)


def matmul_rate(device: str, wide: int) -> float:
    """FLOP/s of one large square product in bfloat16."""
    a = torch.randn((wide, wide), device=device, dtype=torch.bfloat16)
    return rate(device, lambda: a @ a, 2 * wide**3, times=3)


def peak_of(card: str) -> float | None:
    return next((flops for name, flops in PEAK.items() if name in card), None)


def profiled(device: str, step: Callable[[], object], steps: int = 8, most: int = 15) -> dict:
    """Of one step: milliseconds in all and in kernels, how many kernels there are, and the longest by name."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    if device == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    began = finished(device)
    for _ in range(steps):
        step()
    wall = (finished(device) - began) / steps
    with torch.profiler.profile(activities=activities) as profile:
        for _ in range(steps):
            step()
        finished(device)
    on_device = device == "cuda"
    taken = sorted(((one.key, one.count / steps,
                     (one.self_device_time_total if on_device else one.self_cpu_time_total) / steps)
                    for one in profile.key_averages()
                    if not on_device or one.device_type == torch.autograd.DeviceType.CUDA), key=lambda one: -one[2])
    return {"ms": 1000 * wall, "ms_in_kernels": sum(one[2] for one in taken) / 1000,
            "kernels": sum(one[1] for one in taken),
            "longest": [{"name": name[:120], "calls": calls, "us": round(us, 2)} for name, calls, us in taken[:most]]}
