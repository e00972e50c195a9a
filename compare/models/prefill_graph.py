"""Short prompts read in a fixed shape, which a GPU replays as one graph: before the first token, too, it would wait for
the host between some 600 launches.

Rows and length are filled up to whole buckets; what is beyond a prompt's end is never looked at, as all look back
alone. Long prompts are read eagerly, chunk by chunk.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from math import prod

from torch import Tensor

from compare.engine.kv_cache import length_bucket, row_bucket
from compare.models.architecture import Architecture, KeysValues, Slot
from compare.models.decode_graph import copy_gate, empty_gate, stack_key
from compare.models.lora_rows import Gate
from compare.models.recordings import AsItIs, Recordings

LONGEST = 512  # tokens of all rows, filled up; of more the arithmetic takes about as long as the launches


@dataclass
class Prompts:
    """All that one shape reads, at addresses that stay: (rows, length) ids, the (1,) number of the last one, the gate,
    and the slot where they are read; `replay`: reads them, and gives the (rows, hidden) states of the last ids."""

    ids: Tensor
    last: Tensor
    gate: Gate | None
    slot: Slot
    replay: Callable[[], Tensor] = field(init=False)

    def fill(self, ids: Tensor, gate: Gate | None) -> None:
        rows, length = ids.shape
        self.ids[:rows, :length], self.ids[:rows, length:] = ids, ids[:, -1:]
        self.last.fill_(length - 1)
        if gate is not None and self.gate is not None:
            copy_gate(gate, self.gate)


def read_whole(decoder: Architecture, prompts: Prompts) -> Tensor:
    return decoder.states(prompts.ids, prompts.slot, prompts.gate).index_select(1, prompts.last)[:, 0]


class StaticPrefill:
    """Reads prompts in a fixed shape, recorded at the first use of each: rows, length, adapters."""

    def __init__(self, decoder: Architecture, recorder: AsItIs | None = None):
        """By default the device's recorder."""
        self.decoder = decoder
        self.shapes: Recordings[Prompts] = Recordings(recorder) if recorder else Recordings.on(decoder.device)
        self.place: KeysValues | None = None

    def __call__(self, ids: Tensor, gate: Gate | None) -> tuple[KeysValues, Tensor] | None:
        """(rows, length) ids → their keys and values, and the (rows, hidden) states of the last ids; None where they
        are too long, or the shape cannot be recorded."""
        count, decoder = ids.shape, self.decoder
        rows, length = row_bucket(count[0]), length_bucket(count[1])
        if rows * length > LONGEST:
            return None

        def record() -> Prompts:
            made = Prompts(ids.new_zeros((rows, length)), ids.new_zeros(1), gate and empty_gate(gate, rows),
                           decoder.slot_from(self.cache(rows, length), 0, length))
            made.fill(ids, gate)
            made.replay = self.shapes.recorder.record(partial(read_whole, decoder, made))
            return made

        made = self.shapes.get((rows, length, stack_key(gate)), f"reading {rows} prompts of {length}",
                               rows * length * (decoder.n_head * length + 8 * decoder.hidden_size), record)
        if made is None:
            return None
        made.fill(ids, gate)
        states = made.replay()[:count[0]].clone()  # the next prompts take the same place
        return KeysValues(*(part[:, :count[0], :, :count[1]].clone() for part in made.slot.cache)), states

    def cache(self, rows: int, length: int) -> KeysValues:
        """The one place of all shapes, seen as this one's: they never run at the same time."""
        self.place = self.place or self.decoder.new_cache(1, LONGEST)
        shape = rows, self.decoder.kv_heads, length, self.decoder.head_size
        return KeysValues(*(part.flatten(1)[:, :prod(shape)].unflatten(1, shape) for part in self.place))

    def clear(self) -> None:
        self.shapes.clear()
        self.place = None
