"""`/health`: is the page well, for whoever watches it: what is loaded, how long the line is, the model's thread.

JSON, status 200 while questions can be answered and 503 when they cannot. Names no visitor and no question.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import gradio as gr
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from compare import __version__
from compare.engine.interface import Engine

ANSWERING = ("idle", "running", "restarted", "none", "remote")  # states of the model's thread in which all is well


@dataclass(frozen=True)
class Health:
    """What one engine and the page over it have to say; `began` on the monotonic clock."""

    engine: Engine
    page: gr.Blocks
    began: float = field(default_factory=time.monotonic)

    def facts(self) -> dict:
        """Seconds, counts and names. `queue`: questions in line and under way; `batch`: columns that advance together
        and for how many there is room (fewer than usual where memory ran out). `steps`: how tokens are made, `eager`
        or, on a GPU, by `graphs`, and why not where they could not be captured."""
        known, load, line = self.engine.facts, self.engine.load(), self.page._queue
        running = sum(len(events) for events in line.active_jobs if events)
        return {"status": "ok" if load.thread in ANSWERING else "down", "version": __version__,
                "base": known.base_name, "adapters": [a.name for a in self.engine.adapters.values() if a.shown],
                "device": known.device, "dtype": known.dtype, "uptime_seconds": int(time.monotonic() - self.began),
                "queue": {"waiting": len(line) + load.waiting, "running": running, "most": line.max_size},
                "batch": {"columns": load.columns, "room": load.room}, "steps": load.steps,
                "model_thread": {"state": load.thread, "restarts": load.restarts}}

    def route(self) -> Route:
        async def health(request: Request) -> JSONResponse:
            facts = self.facts()
            return JSONResponse(facts, 200 if facts["status"] == "ok" else 503, {"Cache-Control": "no-store"})

        return Route("/health", health)
