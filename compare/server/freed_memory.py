"""Freed memory, given back to the system.

glibc keeps what was freed in the middle of its heaps, a heap for each of many threads; other systems' allocators have
no such call, and need none.
"""

from __future__ import annotations

import ctypes
import sys


def give_back() -> None:
    """Hand freed pages back; takes some milliseconds."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
        if trim:
            trim(0)
