"""Which answer each visitor is being given, so that Stop, or the next question, ends it."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass, field

LONGEST_WAIT = 2.0  # seconds for an earlier answer to end
REMEMBERED = 1000  # visits whose last answer is over and may still be told from an earlier question on its way


@dataclass
class Run:
    """One answer under way. `asked_at`: the visitor's clock; `superseded`: the same visitor has asked again, nothing
    more need be shown."""

    asked_at: float = -math.inf
    cancelled: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)
    superseded: bool = False

    def end(self) -> None:
        self.cancelled.set()
        self.over.set()


class Runs:
    """At most one run a visitor, by Gradio's key of the visit."""

    def __init__(self) -> None:
        self.by_visit: dict[str, Run] = {}  # the last of each, over or not, the oldest first
        self.lock = threading.Lock()

    def begin(self, visit: str, asked_at: float | None = None) -> Run:
        """A new run; the visitor's earlier one is ended first, lest its last drawing covers the new one's.

        Questions asked shortly after one another arrive in any order: who was asked before the one that runs is
        superseded from the start. `asked_at`: None where nothing can have overtaken it.
        """
        with self.lock:
            before = self.by_visit.get(visit)
            newest = before.asked_at if before else -math.inf
            run = Run(newest if asked_at is None else asked_at)
            if run.asked_at < newest:
                run.superseded = True
                run.end()
                return run
            self.by_visit.pop(visit, None)
            self.by_visit[visit] = run
            self.forget()
        if before and not before.over.is_set():
            before.superseded = True
            before.cancelled.set()
            before.over.wait(LONGEST_WAIT)
        return run

    def forget(self) -> None:
        """Drop the visits that asked longest ago, unless one of them still runs."""
        for visit in list(self.by_visit)[:max(len(self.by_visit) - REMEMBERED, 0)]:
            if self.by_visit[visit].over.is_set():
                del self.by_visit[visit]

    def stop(self, visit: str) -> None:
        """Ask the visitor's run to end; it still shows what it has."""
        with self.lock:
            run = self.by_visit.get(visit)
        if run:
            run.cancelled.set()
