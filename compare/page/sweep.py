"""Forgets what Gradio keeps of visitors who are gone: messages that nobody reads any more, and their session's state.

Gradio drops a visitor's messages only when 2,000 others came later, and a session's state never before its capacity
is reached; of whoever closed the connection in the middle of an answer all of it stays. ASGI middleware, because what
grows by requests can be swept by requests. Knows Gradio's queue and session store (6.31), and no tab.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import gradio as gr
from starlette.types import ASGIApp, Receive, Scope, Send

EVERY = 30.0  # seconds between two sweeps; a reader who is there has read what was sent to it by the second
IDLE = timedelta(hours=1)  # after which an open page begins with Gradio's defaults again


@dataclass
class Sweep:
    """Sweeps at most every `EVERY` seconds, before a request is passed on."""

    app: ASGIApp
    page: gr.Blocks
    clock: Callable[[], float] = time.monotonic
    last: float = 0.0
    quiet: set[str] = field(default_factory=set)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.clock() - self.last >= EVERY:
            self.last = self.clock()
            self.messages()
            self.sessions()
        await self.app(scope, receive, send)

    def messages(self) -> None:
        """Those of sessions that have had no event waiting or running at two sweeps."""
        queue = self.page._queue
        busy = {event.session_hash for event in list(queue.event_ids_to_events.values())}
        quiet = {*queue.pending_messages_per_session, *queue.pending_event_ids_session} - busy
        for session in quiet & self.quiet:
            queue.pending_messages_per_session.pop(session, None)
            queue.pending_event_ids_session.pop(session, None)
        self.quiet = quiet

    def sessions(self) -> None:
        """State of visitors who have asked for nothing since an hour."""
        holder = self.page.app.state_holder
        now = datetime.now()
        for session, used in list(holder.time_last_used.items()):
            if now - used > IDLE:
                with holder.lock:
                    holder.session_data.pop(session, None)
                    holder.time_last_used.pop(session, None)
