"""Functions of fixed shape, recorded at the first use of each: on a GPU as CUDA graphs, which replay some 600 launches
as one; on another device they are computed again each time.

Graphs may take a share of the memory that is free beside the weights and the KV cache. What does not fit, or cannot be
recorded, is computed eagerly by whoever asked for it, and `state` says so.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

import torch

from compare.engine.memory import give_back, let_go, ran_out
from compare.event_log import log
from lens.errors import first_line
from lens.gpu_memory import gpu_memory, in_gb, shared_gpu

MOST = 48  # recordings at once; beyond, all are made anew as they are needed
SHARE, CAP = 0.25, 4 << 30  # of the free memory that graphs may take, and bytes at most; the rest is for the cache
COPIES = 32  # bytes for each number of the largest tensors: four of them in float32, to warm up and to capture
MARGIN = 64 << 20  # bytes beside those
AGAIN = 60  # seconds until what did not fit is tried again
WARM_UP = 3  # runs on a side stream before a capture, as torch asks for
FAILURES = 3  # captures that failed, after which no other is tried

T = TypeVar("T")


class AsItIs:
    """For a device without graphs: a function is computed again each time."""

    state, bytes = "static", 0

    def allowed(self) -> int:
        return sys.maxsize

    def shared(self) -> dict[str, str]:
        return {}

    def record(self, function: Callable[[], T]) -> Callable[[], T]:
        return function

    def clear(self) -> None:
        pass


class CudaGraphs(AsItIs):
    """Captures functions as CUDA graphs that share one pool of memory: they never run at the same time. `bytes`: what
    they took so far."""

    state = "graphs"

    def __init__(self, device: torch.device):
        self.device, self.side = device, torch.cuda.Stream(device)
        self.clear()

    def clear(self) -> None:
        self.pool, self.bytes = torch.cuda.graph_pool_handle(), 0

    def allowed(self) -> int:
        """Bytes that all graphs may take: a share of what is free now, their own counted in."""
        return min(CAP, int(SHARE * (gpu_memory(self.device).free + self.bytes)))

    def shared(self) -> dict[str, str]:
        return shared_gpu(self.device)

    def record(self, function: Callable[[], T]) -> Callable[[], T]:
        """A function that repeats this one on whatever its buffers hold then. It is run: it must not matter whether
        it was. Raises what it raises, or where something in it cannot be captured."""
        before = torch.cuda.memory_reserved(self.device)
        with torch.cuda.device(self.device):
            self.side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self.side):
                for _ in range(WARM_UP):
                    function()
            torch.cuda.current_stream().wait_stream(self.side)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, self.pool, capture_error_mode="thread_local"):
                found = function()
        self.bytes += max(0, torch.cuda.memory_reserved(self.device) - before)

        def replay() -> T:
            graph.replay()
            return found

        return replay


class Recordings(Generic[T]):
    """What was recorded, by its shape. `state`: how it is computed, for `/health`."""

    def __init__(self, recorder: AsItIs):
        self.recorder = recorder
        self.kept: dict[Hashable, T] = {}
        self.waits: dict[Hashable, float] = {}  # what did not fit, and when it is tried again
        self.failures, self.last, self.short, self.state = 0, "", "", recorder.state

    @classmethod
    def on(cls, device: torch.device) -> Recordings[T]:
        return cls(CudaGraphs(device) if device.type == "cuda" else AsItIs())

    def get(self, key: Hashable, what: str, numbers: int, make: Callable[[], T]) -> T | None:
        """What was recorded under this key, or is now, by `make`; None where it cannot be. `what`: its name in a
        sentence; `numbers`: how many its largest tensors hold."""
        if key in self.kept:
            return self.kept[key]
        if self.failures >= FAILURES or time.monotonic() < self.waits.get(key, 0.0):
            return None
        if not self.make_room(key, what, COPIES * numbers + MARGIN):
            return None
        began = time.monotonic()
        try:
            made = self.kept[key] = make()
        except Exception as err:  # noqa: BLE001 (whatever a driver or a family cannot do, eagerly it may)
            self.fail(key, what, err)
            return None
        if self.waits.pop(key, None):
            self.short = ""
            self.tell()
        log.info("recorded %s in %.0f ms", what, 1000 * (time.monotonic() - began))
        return made

    def make_room(self, key: Hashable, what: str, needed: int) -> bool:
        """Is there memory for one that needs about so many bytes? If need be, what is recorded is given back."""
        allowed = self.recorder.allowed
        if len(self.kept) < MOST and needed + self.recorder.bytes <= allowed():
            return True
        give_back()  # what torch keeps for later counts as taken
        if needed > allowed():
            self.wait(key, f"{what} needs about {in_gb(needed)}, graphs may take {in_gb(allowed())}")
            return False
        if len(self.kept) >= MOST or needed + self.recorder.bytes > allowed():
            self.clear()
            give_back()
        return True

    def wait(self, key: Hashable, why: str) -> None:
        """Memory is short for this one: it is eager for a while, which is told."""
        self.waits[key] = time.monotonic() + AGAIN
        others = self.recorder.shared().get("others")
        self.short = why + (f" (other programs hold {others} of the GPU)" if others else "")
        self.tell()
        log.warning("eager for want of memory: %s", self.short)

    def fail(self, key: Hashable, what: str, error: Exception) -> None:
        """It could not be recorded: that is told, and what graphs hold is given back."""
        if ran_out(error):
            self.wait(key, f"{what}: memory ran out as it was captured")
        else:
            self.failures, self.last = self.failures + 1, first_line(error)
            self.tell()
            log.warning("%s: %s", what, self.state, exc_info=error)
        let_go(error)
        self.clear()
        give_back()

    def tell(self) -> None:
        parts = ["eager" if self.failures >= FAILURES else self.recorder.state]
        if self.failures:
            parts.append(f"captures that failed: {self.failures}, the last: {self.last}")
        self.state = ", ".join([*parts, *([f"eager where memory is short: {self.short}"] if self.short else [])])

    def clear(self) -> None:
        self.kept.clear()
        self.recorder.clear()
