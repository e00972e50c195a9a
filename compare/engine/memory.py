"""When memory runs out: is it that, what can be given back then, what is said, and how many columns still fit."""

from __future__ import annotations

import gc
import re
import traceback
from typing import Any

import torch

from lens.errors import Unavailable
from lens.gpu_memory import shared_gpu

CALM = 64  # steps without a mishap, for one column more
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


def too_little(device: Any) -> Unavailable:
    """What whoever cannot be served alone is told; on a GPU also of what other programs hold."""
    if shared := shared_gpu(device):
        return Unavailable("question-out-of-memory-gpu-shared", **shared)
    return Unavailable("question-out-of-memory")


class Capacity:
    """For how many columns there is room in one batch: `most` to begin with, `limit` now; fewer after memory ran out,
    slowly more while it does not.

    Halved at once, widened by one at a time, as congestion is avoided in networks (Chiu and Jain, 1989).
    """

    def __init__(self, most: int):
        self.most = self.limit = most
        self.calm = 0

    def admits(self, columns: int, more: int) -> bool:
        """May a question with `more` columns join `columns` that advance already? By itself any question may."""
        return columns + more <= max(self.limit, more)

    def shrink(self, columns: int) -> None:
        """Memory ran out with so many."""
        if columns:
            self.limit, self.calm = max(1, min(self.limit, columns) // 2), 0

    def widen(self) -> None:
        """A step went well."""
        if self.limit < self.most:
            self.calm += 1
            if self.calm >= CALM:
                self.limit, self.calm = self.limit + 1, 0
