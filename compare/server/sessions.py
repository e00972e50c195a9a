"""Forgets what Gradio keeps of visitors who are gone: messages that nobody reads any more, and their session's state.

Gradio drops a visitor's messages only when 2,000 others came later, and a session's state never before its capacity
is reached; of whoever closed the connection in the middle of an answer all of it stays. ASGI middleware, because what
grows by requests can be cleaned by requests.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from urllib.parse import parse_qs

import gradio as gr
from starlette.types import ASGIApp, Receive, Scope, Send

from compare.server.freed_memory import give_back

EVERY = 30.0  # seconds between two cleanings; a reader who is there has read what was sent to it by the second
IDLE = timedelta(hours=1)  # after which an open page begins with Gradio's defaults again
GONE = timedelta(minutes=1)  # likewise for who never held a page open, such as a script that asked once


class NoSettings(dict):
    """Takes and keeps no setting of any component, and says of each that it is there."""

    def __contains__(self, key: object) -> bool:
        return True

    def __missing__(self, key: object) -> dict:
        return {}

    def __setitem__(self, key: object, value: object) -> None:
        pass


def stream_of(scope: Scope) -> tuple[str, bool] | None:
    """(session, is it a browser's heartbeat?) of a request that stays open for as long as its visitor is there."""
    before, _, last = scope.get("path", "").rpartition("/")
    if before.endswith("/heartbeat"):
        return last, True
    if before.endswith("/queue") and last == "data":
        return parse_qs(scope["query_string"].decode("latin-1")).get("session_hash", [""])[0], False
    return None


@dataclass
class SessionCleaner:
    """Cleans at most every `EVERY` seconds, before a request is passed on."""

    app: ASGIApp
    page: gr.Blocks
    clock: Callable[[], float] = time.monotonic
    last: float = 0.0
    quiet: set[str] = field(default_factory=set)
    streams: Counter[str] = field(default_factory=Counter)  # open ones, by session
    browsers: set[str] = field(default_factory=set)  # sessions that were held open

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.clock() - self.last >= EVERY:
            self.last = self.clock()
            self.clean()
        if not (stream := stream_of(scope)):
            return await self.app(scope, receive, send)
        session, is_browser = stream
        self.streams[session] += 1
        self.browsers |= {session} if is_browser else set()
        try:
            await self.app(scope, receive, send)
        finally:
            self.streams[session] -= 1
            self.streams += Counter()  # without those that reached zero

    def clean(self) -> None:
        queue = self.page._queue
        busy = {event.session_hash for event in list(queue.event_ids_to_events.values())}
        here = busy | set(self.streams)
        self.messages(here)
        self.sessions(here)
        self.page.app.iterators_to_reset &= set(queue.event_ids_to_events)  # of what was cancelled and is over
        if not busy:
            give_back()

    def messages(self, here: set[str]) -> None:
        """Those of sessions that were not here at two cleanings, nor asked for anything in between: who asks again and
        again may by chance be between two questions at both."""
        queue, since = self.page._queue, datetime.now() - timedelta(seconds=EVERY)
        asked = {session for session, used in list(self.page.app.state_holder.time_last_used.items()) if used > since}
        quiet = {*queue.pending_messages_per_session, *queue.pending_event_ids_session} - here - asked
        for session in quiet & self.quiet:
            queue.pending_messages_per_session.pop(session, None)
            queue.pending_event_ids_session.pop(session, None)
        self.quiet = quiet

    def sessions(self, here: set[str]) -> None:
        """State of visitors who have asked for nothing since an hour, of scripts since a minute, and of everybody the
        settings of every component, which Gradio keeps for an address that is shut (`/deep_link`)."""
        holder = self.page.app.state_holder
        now = datetime.now()
        for session, used in list(holder.time_last_used.items()):
            if now - used > IDLE or now - used > GONE and session not in here | self.browsers:
                with holder.lock:
                    holder.session_data.pop(session, None)
                    holder.time_last_used.pop(session, None)
        for state in list(holder.session_data.values()):
            if not isinstance(state.config_values, NoSettings):
                state.config_values = NoSettings()
        self.browsers &= here | set(holder.session_data)
