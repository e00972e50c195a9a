"""The most memory this process held, from Linux's /proc. `ru_maxrss` will not do: loading, and before that the
process that started this one, count in it and cannot be forgotten."""

from __future__ import annotations

from pathlib import Path


def peak() -> int:
    """Bytes: the most this process held since `forget_peak`; 0 where the system does not say."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return 0


def forget_peak() -> int:
    """Start the peak anew at what is held now; returns it, in bytes."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass
    return peak()
