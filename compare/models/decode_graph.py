"""One step of the batch: eagerly, over what is in use now, or as a function of fixed shape, which a GPU replays.

A step of a small model is some 600 launches, and a GPU waits for the host between them. `StaticStep` computes the same
over buffers that stay where they are: whole buckets of rows and positions, what is unused masked, the position held in
a tensor, keys and values written by index. Nothing in it is decided on the host, so it can be captured as a CUDA graph
and replayed. Joining, leaving and moving change what the buffers hold, between two steps.

It runs on a CPU too, where tests hold it to the eager step; there it is off, because it computes more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from functools import partial, reduce
from typing import NamedTuple

import torch
from torch import Tensor

from compare.engine.kv_cache import KVCache, length_bucket, row_bucket
from compare.engine.memory import give_back, let_go, ran_out
from compare.event_log import log
from compare.models.architecture import Architecture, Slot, WrittenOut
from compare.models.lora_rows import Gate
from lens.errors import first_line

MOST = 48  # graphs at once
SHARE = 0.1  # of the device's memory that graphs may take; beyond, all are captured anew as they are needed
WARM_UP = 3  # steps on a side stream before a capture, as torch asks for
FAILURES = 3  # captures that failed, after which no other is tried


class Next(NamedTuple):
    """What a forward says of each row's next token: (rows, vocabulary) float32 logits, the (rows,) ids of the largest,
    and P of an end, (rows,)."""

    logits: Tensor
    best: Tensor
    ends: Tensor


def next_of(logits: Tensor, ends: Sequence[int]) -> Next:
    whole = logits.logsumexp(-1)
    return Next(logits, logits.argmax(-1), reduce(Tensor.add, [(logits[:, end] - whole).exp() for end in ends]))


def decode(decoder: Architecture, ids: Tensor, slot: Slot, gate: Gate | None, ends: Sequence[int]) -> Next:
    """(rows, 1) ids → what comes next; keys and values are written in the slot."""
    return next_of(decoder.logits(decoder.states(ids, slot, gate)[:, -1]), ends)


def decode_masked(decoder: Architecture, ids: Tensor, slot: Slot, gate: Gate | None, ends: Sequence[int]) -> Next:
    """The same in a slot of fixed shape: positions that no row has written yet are not looked at."""
    assert slot.places is not None
    position = torch.arange(slot.bias.shape[-1], device=decoder.device)
    seen = slot._replace(bias=slot.bias.masked_fill(position > slot.places, -torch.inf))
    return decode(decoder, ids, seen, gate, ends)


class EagerStep:
    """The step over just the rows and positions in use. `state`: how steps are made, for `/health`."""

    fixed = False
    state = "eager"

    def __init__(self, decoder: Architecture):
        self.decoder = decoder

    def __call__(self, ids: Tensor, cache: KVCache, slot: Slot, gate: Gate | None, ends: Sequence[int]) -> Next:
        """(rows, 1) ids → what comes next. `slot`: the cache's, of this step. What is returned may be overwritten by
        the next step."""
        return decode(self.decoder, ids, slot, gate, ends)

    def clear(self) -> None:
        """Hold nothing any more that belongs to a cache."""


@dataclass
class Shape:
    """One shape's inputs, at addresses that stay; `filled`: the gate that its gate holds now; `replay`: the step over
    them."""

    ids: Tensor
    now: Tensor
    gate: Gate | None
    replay: Callable[[], Next] = field(init=False)
    filled: Gate | None = None

    def fill(self, ids: Tensor, now: int, gate: Gate | None) -> None:
        self.ids[:len(ids)] = ids
        self.now.fill_(now)
        if gate is not None and self.gate is not None and gate is not self.filled:
            copy_gate(gate, self.gate)
            self.filled = gate


def empty_gate(gate: Gate, rows: int) -> Gate:
    """Room for a gate of so many rows over the same adapters, all off."""
    scale = gate.scale.new_zeros((rows, *gate.scale.shape[1:]))
    off_at = None if gate.off_at is None else {place: scale == 0 for place in gate.off_at}
    return Gate(gate.stack, scale, scale == 0, off_at)


def copy_gate(gate: Gate, into: Gate) -> None:
    rows = len(gate.scale)
    into.scale[:rows], into.off[:rows] = gate.scale, gate.off
    for place, off in (gate.off_at or {}).items():
        assert into.off_at is not None
        into.off_at[place][:rows] = off


class AsItIs:
    """For a device without graphs: a step is computed again each time."""

    state, bytes = "static", 0

    def record(self, step: Callable[[], Next]) -> Callable[[], Next]:
        return step

    def clear(self) -> None:
        pass


class CudaGraphs:
    """Captures steps as CUDA graphs that share one pool of memory: they never run at the same time. `bytes`: what they
    took so far."""

    state = "graphs"

    def __init__(self, device: torch.device):
        self.device, self.side = device, torch.cuda.Stream(device)
        self.clear()

    def clear(self) -> None:
        self.pool, self.bytes = torch.cuda.graph_pool_handle(), 0

    def record(self, step: Callable[[], Next]) -> Callable[[], Next]:
        """A function that repeats the step on whatever its buffers hold then. The step is run: it must not matter
        whether it was. Raises what it raises, or where something in it cannot be captured."""
        began, before = time.monotonic(), torch.cuda.memory_reserved(self.device)
        with torch.cuda.device(self.device):
            self.side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self.side):
                for _ in range(WARM_UP):
                    step()
            torch.cuda.current_stream().wait_stream(self.side)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, self.pool, capture_error_mode="thread_local"):
                found = step()
        self.bytes += max(0, torch.cuda.memory_reserved(self.device) - before)
        log.info("captured a step of %d rows in %.0f ms", len(found.best), 1000 * (time.monotonic() - began))

        def replay() -> Next:
            graph.replay()
            return found

        return replay


class StaticStep(EagerStep):
    """The step of fixed shape, recorded at the first use of each shape: rows, positions, adapters, ends.

    What cannot be recorded is computed eagerly, and after some failures everything is; `state` says so.
    """

    fixed = True

    def __init__(self, decoder: Architecture, recorder: AsItIs | CudaGraphs | None = None, budget: int | None = None):
        """By default the device's recorder; `budget`: bytes that graphs may take, by default a share of its memory."""
        super().__init__(decoder)
        cuda = decoder.device.type == "cuda"
        self.recorder = recorder or (CudaGraphs(decoder.device) if cuda else AsItIs())
        self.budget = budget if budget is not None else (
            int(SHARE * torch.cuda.mem_get_info(decoder.device)[1]) if cuda else 0)
        self.shapes: dict[Hashable, Shape] = {}
        self.over: Hashable = None  # the addresses that the shapes were recorded over
        self.failures, self.state = 0, self.recorder.state

    def __call__(self, ids: Tensor, cache: KVCache, slot: Slot, gate: Gate | None, ends: Sequence[int]) -> Next:
        shape = self.shape(ids, cache, gate, tuple(ends)) if self.failures < FAILURES else None
        if shape is None:
            return super().__call__(ids, cache, slot, gate, ends)
        shape.fill(ids, cache.now - 1, gate)
        return Next(*(part[:len(ids)] for part in shape.replay()))

    def shape(self, ids: Tensor, cache: KVCache, gate: Gate | None, ends: tuple[int, ...]) -> Shape | None:
        """What was recorded for such a step, or is now; None where it cannot be."""
        over = cache.cache.keys.shape, *(part.data_ptr() for part in (*cache.cache, cache.bias, cache.own))
        if over != self.over:
            self.clear()
            self.over = over
        rows = row_bucket(len(ids))
        key = (rows, length_bucket(cache.now), ends,
               gate and (id(gate.stack), gate.off_at is None))  # a shape's gate holds its stack
        if key in self.shapes:
            return self.shapes[key]
        if len(self.shapes) >= MOST or self.recorder.bytes > self.budget:
            self.clear()
        shape = Shape(ids.new_zeros((rows, 1)), ids.new_zeros(1), gate and empty_gate(gate, rows))
        shape.fill(ids, cache.now - 1, gate)
        try:
            shape.replay = self.recorder.record(
                partial(decode_masked, self.decoder, shape.ids, cache.whole(shape.now), shape.gate, ends))
        except Exception as err:  # noqa: BLE001 (whatever a driver or a family cannot do, eagerly it may)
            self.fail(err)
            return None
        self.shapes[key] = shape
        return shape

    def fail(self, error: Exception) -> None:
        """A step could not be recorded: it is told, and what graphs hold is given back."""
        self.failures += 1
        self.state = (f"{self.recorder.state if self.failures < FAILURES else 'eager'}, "
                      f"captures that failed: {self.failures}, the last: {first_line(error)}")
        log.warning("decode steps: %s", self.state, exc_info=None if ran_out(error) else error)
        let_go(error)
        self.clear()
        give_back()

    def clear(self) -> None:
        self.shapes.clear()
        self.recorder.clear()


def step_of(decoder: Architecture, static: bool | None = None) -> EagerStep:
    """How a decoder's steps are made. `static`: by default on a GPU alone; families that are not written out here
    decide on the host, and are always eager."""
    wanted = decoder.device.type == "cuda" if static is None else static
    return (StaticStep if wanted and isinstance(decoder, WrittenOut) else EagerStep)(decoder)
