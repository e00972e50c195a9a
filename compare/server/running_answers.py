"""Which answer each visitor is being given, so that Stop, or the next question, ends it."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

LONGEST_WAIT = 2.0  # seconds for an earlier answer to end
GRACE = 0.1  # seconds in which Gradio sends an ended answer's last drawing once more


@dataclass
class Run:
    """One answer under way. `superseded`: the same visitor has asked again, nothing more need be shown."""

    cancelled: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)
    superseded: bool = False


class Runs:
    """At most one run a visitor, by Gradio's key of the visit."""

    def __init__(self) -> None:
        self.by_visit: dict[str, Run] = {}
        self.lock = threading.Lock()

    def begin(self, visit: str) -> Run:
        """A new run; the visitor's earlier one is ended first, lest its last drawing covers the new one's."""
        run = Run()
        with self.lock:
            before, self.by_visit[visit] = self.by_visit.get(visit), run
        if before:
            before.superseded = True
            before.cancelled.set()
            before.over.wait(LONGEST_WAIT)
            time.sleep(GRACE)
        return run

    def stop(self, visit: str) -> None:
        """Ask the visitor's run to end; it still shows what it has."""
        with self.lock:
            run = self.by_visit.get(visit)
        if run:
            run.cancelled.set()

    def end(self, visit: str, run: Run) -> None:
        """Forget a run that is over, or whose reader has left."""
        run.cancelled.set()
        run.over.set()
        with self.lock:
            if self.by_visit.get(visit) is run:
                del self.by_visit[visit]
