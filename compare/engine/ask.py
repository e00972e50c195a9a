"""One question's way through the batch: its prompts, its luck, what its answers have so far."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from queue import SimpleQueue

from compare.engine.interface import Sampling, Variant
from compare.engine.sampling import Chooser


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
