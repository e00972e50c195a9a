"""One question's way through the batch: its prompts, what its answers have so far, and whom to tell. No torch."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from compare.engine.interface import Asked, Ended, EngineEvent, Grown, Question, Sampling, Step, Variant
from lens.errors import LensError, Unavailable, first_line

if TYPE_CHECKING:
    from compare.engine.sampling import Chooser


class OpenQuestion:
    """A question with its variants, each with its prompt's ids; `number` is what whoever asked counts it by.

    `token_ids` of each column so far and `growing`, the columns that are not finished, let it leave the batch and go
    on later.
    """

    def __init__(self, prompts: Sequence[Sequence[int]], variants: Sequence[Variant], sampling: Sampling,
                 tell: Callable[[EngineEvent], None], cancelled: threading.Event | None = None, number: int = 0,
                 question: Question | None = None):
        self.prompts, self.variants, self.sampling = [list(ids) for ids in prompts], list(variants), sampling
        self.tell, self.cancelled = tell, cancelled or threading.Event()
        self.number, self.question = number, question
        self.chooser: Chooser | None = None  # made at the first draw, and anew after a pause
        self.token_ids = [list(sampling.prefix_ids) for _ in self.variants]
        self.growing = set(range(len(self.variants)))
        self.memory_failures = 0  # times that memory ran out with nobody else in the batch

    @property
    def asked(self) -> Asked:
        return Asked(self.number, tuple(self.variants), tuple(map(tuple, self.prompts)))

    @property
    def adapters(self) -> set[str]:
        """The names of those that its variants use."""
        return {variant.adapter for variant in self.variants if variant.adapter}

    @property
    def spent(self) -> int:
        """Steps whose random draws have been used."""
        return max((len(self.token_ids[column]) for column in self.growing), default=0)

    def grow(self, grown: Iterable[Grown]) -> None:
        """Tell of what the columns got; after the last one's end, that the question has ended."""
        news = tuple(grown)
        if not news:
            return
        self.growing -= {one.column for one in news if one.finish_reason}
        self.tell(Step(self.number, news))
        if not self.growing:
            self.tell(Ended(self.number))

    def cancel(self) -> None:
        """Finish what still grows: whoever asked has left, or pressed Stop."""
        self.grow(Grown(column, None, None, "cancelled") for column in sorted(self.growing))

    def fail(self, error: Exception) -> None:
        """Tell whoever asked what ended this question, as an error with a code."""
        self.growing.clear()
        self.tell(Ended(self.number, coded(error)))


def coded(error: Exception) -> LensError:
    """The error itself where it has a code, else one that names it."""
    if isinstance(error, LensError):
        return error
    told = Unavailable("question-failed", kind=type(error).__name__, reason=first_line(error))
    told.__cause__ = error
    return told
