"""Which requests the page answers: under which host names, from which pages, at which addresses, of which size.

Pure ASGI, in front of Gradio's own routes, so that it holds for every one of them, streams and sockets too. What is
not named here is shut: what a later Gradio adds stays shut until someone opens it.
"""

from __future__ import annotations

import ipaddress
import re
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from starlette.datastructures import Headers
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from compare.event_log import event

API = "gradio_api"
# First parts of the addresses that the page, its scripts and gradio_client use; below /gradio_api, and elsewhere.
API_PARTS = {"api", "app_id", "call", "cancel", "component_server", "file", "heartbeat", "info", "login_check", "mcp",
             "openapi.json", "queue", "reset", "run", "startup-events", "theme.css", "user"}
PARTS = {"", "assets", "config", "favicon.ico", API, "health", "login", "logout", "manifest.json", "robots.txt",
         "static", "svelte", "theme.css", "v1"}
UPLOAD_PARTS = {"upload", "upload_progress"}
READING = {"GET", "HEAD", "OPTIONS"}
AUTHORITY = re.compile(r"(\[[0-9a-f:.]+\]|[^\s@/?#\\:\[\]]+)(?::\d{1,5})?", re.IGNORECASE)
SCHEME = re.compile(r"\s*[a-z][a-z0-9+.-]+:", re.IGNORECASE)  # two letters at least: C: is a drive
MEGABYTE = 1_000_000
ENVELOPE = 16_384  # bytes that a form puts around its file
UPLOADS_AN_HOUR = 30  # of all visitors together


def name_of(authority: str) -> str:
    """The host of `Host: [::1]:7860` in lower case, without brackets, port or final dot; "" where it is none."""
    found = AUTHORITY.fullmatch(authority)
    return found[1].strip("[]").lower().rstrip(".") if found else ""


def number_of(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The name as an IP number, which no name server can point elsewhere."""
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


def is_loopback(name: str) -> bool:
    """Does this name mean this machine, whatever a name server says?"""
    number = number_of(name)
    return number.is_loopback if number else name == "localhost"


def fits(name: str, allowed: tuple[str, ...]) -> bool:
    """Is the host name among those allowed: itself, by `*.its.domain`, or by `*`?"""
    return any(a == "*" or name == a or a.startswith("*.") and name.endswith(a[1:]) for a in allowed)


@dataclass(frozen=True)
class Refusal:
    """An answer to a request that goes no further; the reason is for whoever asked."""

    status: int
    reason: str

    def answer(self, path: str) -> Response:
        """The reason as who asks there reads it: of anything but JSON Gradio's script says "Unexpected token"."""
        if path.startswith(f"/{API}/"):
            return JSONResponse({"detail": self.reason}, self.status, NOSNIFF)
        return PlainTextResponse(self.reason, self.status, NOSNIFF)


NOSNIFF = {"X-Content-Type-Options": "nosniff"}


@dataclass(frozen=True)
class Rules:
    """`hosts`: names answered beside loopback's (`*`: all), and with `numbers` every IP number; `origins`: names of
    pages that may post beside the page itself; `body`, `upload`: megabytes that a request may bring, and a file; no
    files where `upload` is 0."""

    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    body: float = 8
    upload: float = 0
    numbers: bool = False

    def refusal(self, method: str, path: str, headers: Headers) -> Refusal | None:
        """Why this request is not answered; None where it is."""
        return (self.of_host(headers) or self.of_path(path)
                or (None if method in READING else self.of_origin(headers) or self.of_size(path, headers)))

    def of_host(self, headers: Headers) -> Refusal | None:
        """DNS rebinding: another site's name that was made to point here would be read as the page's own."""
        given = headers.getlist("host")
        name = name_of(given[0]) if len(given) == 1 else ""
        if name and (is_loopback(name) or fits(name, self.hosts) or self.numbers and number_of(name)):
            return None
        return Refusal(400, f"host {(given or ['(none)'])[0][:200]!r} is not one this page answers under; open it as "
                            "localhost, or start it with --allowed-hosts NAME")

    def of_origin(self, headers: Headers) -> Refusal | None:
        """Another site's page may not post, even where it cannot read the answer."""
        for origin in headers.getlist("origin"):
            authority = origin.lower().partition("://")[2]
            if authority != headers.get("host", "").lower() and not fits(name_of(authority) or "null", self.origins):
                return Refusal(403, f"a page of {origin[:200]!r} may not ask here; if it is this page behind a proxy, "
                                    "start it with --allowed-hosts NAME")
        return None

    def of_path(self, path: str) -> Refusal | None:
        """Gradio's addresses that nothing of ours needs, and the fetching of other sites' files."""
        first, _, rest = path.removeprefix("/").partition("/")
        part, _, value = (rest if first == API else "").partition("=")
        part = part.partition("/")[0]
        opened = API_PARTS | (UPLOAD_PARTS if self.upload else set())
        shut = first == API and (part not in opened or part != "file" and value)
        if shut or first not in PARTS or rest and not first:
            return Refusal(404, "nothing is kept at this address")
        if SCHEME.match(value):
            return Refusal(403, "files of other sites are not fetched here")
        return None

    def of_size(self, path: str, headers: Headers) -> Refusal | None:
        length = headers.get("content-length", "")
        if not length.isascii() or not length.isdigit():
            return Refusal(411, "the size of what is sent must be said beforehand, in Content-Length")
        most = self.upload * MEGABYTE + ENVELOPE if is_upload(path) else self.body * MEGABYTE
        if int(length) > most:
            return Refusal(413, f"{int(length):,} bytes were sent; allowed: at most {int(most):,}")
        return None


def is_upload(path: str) -> bool:
    return path.rstrip("/") == f"/{API}/upload"


@dataclass
class RequestFilter:
    """ASGI middleware over `Rules`; counts uploads, and tells of each refusal in the log."""

    app: ASGIApp
    rules: Rules = field(default_factory=Rules)
    clock: Callable[[], float] = time.monotonic
    uploads: deque[float] = field(default_factory=deque)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            return await self.app(scope, receive, send)
        method, path, headers = scope.get("method", "GET"), scope["path"], Headers(scope=scope)
        refused = self.rules.refusal(method, path, headers) or self.too_many(method, path)
        if refused:
            event("refused", status=refused.status, reason=refused.reason)
            await refused.answer(path)(scope, receive, send)
        elif path.endswith("/queue/join"):
            await self.app(scope, receive, logging_a_full_line(send))
        else:
            await self.app(scope, receive, send)

    def too_many(self, method: str, path: str) -> Refusal | None:
        if method != "POST" or not is_upload(path):
            return None
        now = self.clock()
        while self.uploads and now - self.uploads[0] > 3600:
            self.uploads.popleft()
        if len(self.uploads) >= UPLOADS_AN_HOUR:
            return Refusal(429, f"{UPLOADS_AN_HOUR} files came in within an hour; try again later")
        self.uploads.append(now)
        return None


def logging_a_full_line(send: Send) -> Send:
    """`send` that also tells the log where Gradio's queue takes no more (503)."""
    async def logged(message: Message) -> None:
        if message.get("status") == 503:
            event("refused", status=503, reason="the line is full")
        await send(message)
    return logged
