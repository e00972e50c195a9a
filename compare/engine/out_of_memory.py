"""Is an error one of memory running out, and what can be given back then."""

from __future__ import annotations

import gc
import re
import traceback

import torch

# How torch's allocators and the libraries under it say so where they raise a plain RuntimeError.
SAID = re.compile(r"out of memory|not enough memory|can(?:'t|not) allocate memory|ALLOC_FAILED|bad_alloc",
                  re.IGNORECASE)


def ran_out(error: BaseException) -> bool:
    return (isinstance(error, (torch.OutOfMemoryError, MemoryError))
            or isinstance(error, RuntimeError) and bool(SAID.search(str(error))))


def let_go(error: BaseException) -> None:
    """Forget the tensors that the frames of a raised error still hold."""
    one: BaseException | None = error
    while one is not None:
        traceback.clear_frames(one.__traceback__)
        one = one.__context__


def give_back() -> None:
    """Hand memory that nothing refers to any more back to the device, for others than torch's own cache too."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
