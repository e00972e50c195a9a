"""One step of the batch: eagerly, over what is in use now, or as a function of fixed shape, which a GPU replays.

A step of a small model is some 600 launches, and a GPU waits for the host between them. `StaticStep` computes the same
over buffers that stay where they are: whole buckets of rows and positions, what is unused masked, the position held in
a tensor, keys and values written by index. Nothing in it is decided on the host, so it can be captured as a CUDA graph
and replayed. Joining, leaving and moving change what the buffers hold, between two steps.

It runs on a CPU too, where tests hold it to the eager step; there it is off, because it computes more.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from functools import partial, reduce
from typing import NamedTuple

import torch
from torch import Tensor

from compare.engine.kv_cache import KVCache, length_bucket, row_bucket
from compare.models.architecture import Architecture, Slot, WrittenOut
from compare.models.lora_rows import Gate
from compare.models.recordings import AsItIs, Recordings


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
    """The step over just the rows and positions in use."""

    fixed = False

    def __init__(self, decoder: Architecture):
        self.decoder = decoder

    def __call__(self, ids: Tensor, cache: KVCache, slot: Slot, gate: Gate | None, ends: Sequence[int]) -> Next:
        """(rows, 1) ids → what comes next. `slot`: the cache's, of this step. What is returned may be overwritten by
        the next step."""
        return decode(self.decoder, ids, slot, gate, ends)

    @property
    def state(self) -> str:
        """How steps are made, for `/health`."""
        return "eager"

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


def stack_key(gate: Gate | None) -> Hashable:
    """What of a gate decides a recording's shape; whoever keeps it must keep the gate's stack."""
    return gate and (id(gate.stack), gate.off_at is None)


class StaticStep(EagerStep):
    """The step of fixed shape, recorded at the first use of each shape: rows, positions, adapters, ends.

    What cannot be recorded is computed eagerly; `state` says so.
    """

    fixed = True

    def __init__(self, decoder: Architecture, recorder: AsItIs | None = None):
        """By default the device's recorder."""
        super().__init__(decoder)
        self.shapes: Recordings[Shape] = Recordings(recorder) if recorder else Recordings.on(decoder.device)
        self.over: Hashable = None  # the addresses that the shapes were recorded over

    @property
    def state(self) -> str:
        return self.shapes.state

    def __call__(self, ids: Tensor, cache: KVCache, slot: Slot, gate: Gate | None, ends: Sequence[int]) -> Next:
        shape = self.shape(ids, cache, gate, tuple(ends))
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
        rows, positions = row_bucket(len(ids)), length_bucket(cache.now)

        def record() -> Shape:
            shape = Shape(ids.new_zeros((rows, 1)), ids.new_zeros(1), gate and empty_gate(gate, rows))
            shape.fill(ids, cache.now - 1, gate)
            shape.replay = self.shapes.recorder.record(
                partial(decode_masked, self.decoder, shape.ids, cache.whole(shape.now), shape.gate, ends))
            return shape

        return self.shapes.get((rows, positions, ends, stack_key(gate)), f"a step of {rows} rows over {positions}",
                               rows * (self.decoder.vocab_size + self.decoder.n_head * positions), record)

    def clear(self) -> None:
        self.shapes.clear()


def decode_step(decoder: Architecture, static: bool | None = None) -> EagerStep:
    """How a decoder's steps are made. `static`: by default on a GPU alone; families that are not written out here
    decide on the host, and are always eager."""
    wanted = decoder.device.type == "cuda" if static is None else static
    return (StaticStep if wanted and isinstance(decoder, WrittenOut) else EagerStep)(decoder)
