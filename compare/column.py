"""One variant's answer as it grows, and one question's way through the batch. Knows no model."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue

from compare.gate import Variant
from compare.repetition import Loop, find_loop, seq_rep
from compare.sampling import Chooser, Sampling


@dataclass
class Column:
    """`finish_reason` is None while the answer grows; `seconds` of wall time since the question was put.

    `end_probability`: at each step, how likely `</s>` was, the last step's included; ids that were given had no step.
    """

    variant: Variant
    decode: Callable[[list[int]], str] = field(repr=False, default=lambda ids: "")
    token_ids: list[int] = field(default_factory=list)
    finish_reason: str | None = None
    seconds: float = 0.0
    end_probability: list[float] = field(default_factory=list)

    @property
    def text(self) -> str:
        """A token may end inside a UTF-8 character: what is not whole yet is not shown."""
        return self.decode(self.token_ids).rstrip("\ufffd")

    @property
    def loop(self) -> Loop | None:
        return find_loop(self.token_ids)

    def as_dict(self) -> dict:
        """The contract's fields of a column, and of one that was not asked in the chat format the form."""
        loop = self.loop
        return {"variant": self.variant.name, "adapter": self.variant.adapter, "strength": self.variant.strength,
                "text": self.text, "token_ids": self.token_ids, "finish_reason": self.finish_reason,
                "tokens": len(self.token_ids), "seconds": round(self.seconds, 3),
                "repetition": {"seq_rep_4": seq_rep(self.token_ids), "loop": loop and vars(loop)},
                "end_probability": [round(p, 6) for p in self.end_probability],
                **({"prompt": self.variant.prompt} if self.variant.prompt != "chat" else {})}


@dataclass(frozen=True)
class Grown:
    """What one column got in one step: a token (None at the end), P(`</s>`), and why it finished, if it did."""

    column: int
    token: int | None
    end_probability: float | None = None
    finish_reason: str | None = None


class Ask:
    """One question in the batch: its variants, each with its prompt's ids, and its luck.

    What grows is put into `inbox`, step by step: (this Ask, list of Grown) or (this Ask, the exception that ended it).
    `token_ids` of each column so far and `growing`, the columns that are not finished, let it leave the batch and go
    on later.
    """

    def __init__(self, prompts: Sequence[list[int]], variants: Sequence[Variant], sampling: Sampling,
                 inbox: SimpleQueue, cancelled: threading.Event | None = None):
        self.prompts, self.variants, self.sampling = list(prompts), list(variants), sampling
        self.inbox, self.cancelled = inbox, cancelled or threading.Event()
        self.chooser = Chooser(sampling)
        self.token_ids = [list(sampling.prefix_ids) for _ in self.variants]
        self.growing = set(range(len(self.variants)))
        self.squeezed = 0  # times that memory ran out with nobody else in the batch

    def rewind(self) -> None:
        """Luck anew, with that of the steps that were taken already spent."""
        self.chooser = Chooser(self.sampling)
        self.chooser.unspent = max((len(self.token_ids[column]) for column in self.growing), default=0)
