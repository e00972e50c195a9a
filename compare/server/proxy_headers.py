"""What a proxy in front says of a request: under which name, scheme and address it came, and a prefix that it left on.

Gradio believes X-Forwarded-* of anybody, and a page elsewhere can send it too. So it is taken from the proxies that
were named, and from nobody else, and what comes after sees it in the request itself: Host, scheme, client, path.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from compare.event_log import event
from compare.server.request_filter import Rules, number_of

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
TAKEN = ("x-forwarded-for", "x-forwarded-host", "x-forwarded-proto")
DROPPED = (b"x-forwarded-", b"forwarded", b"x-gradio-server")  # beginnings of names that nothing behind may read


@dataclass
class ProxyHeaders:
    """ASGI middleware before all others. `trusted`: where the proxies are; `root_path`: where they serve the page."""

    app: ASGIApp
    rules: Rules
    trusted: tuple[Network, ...] = ()
    root_path: str = ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            return await self.app(scope, receive, send)
        refused = self.rules.of_host(Headers(scope=scope))  # of who asks here, before a proxy's word for it
        if refused:
            event("refused", status=refused.status, reason=refused.reason)
            return await refused.answer(scope["path"])(scope, receive, send)
        await self.app(self.stripped(self.told(scope)), receive, send)

    def told(self, scope: Scope) -> Scope:
        """The request as the proxy had it, where the proxy is one of ours."""
        given = Headers(scope=scope)
        address, host, scheme = (given.get(name, "").rpartition(",")[2].strip() for name in TAKEN)  # the nearest's word
        headers = [(name, value) for name, value in scope["headers"] if not name.lower().startswith(DROPPED)]
        scope = {**scope, "headers": headers}
        if not self.trusts(scope):
            return scope
        if host:
            scope["headers"] = [(b"host", host.encode("latin-1")), *(h for h in headers if h[0].lower() != b"host")]
        if scheme in ("http", "https"):
            scope["scheme"] = scheme if scope["type"] == "http" else scheme.replace("http", "ws")
        if number_of(address.strip("[]")):
            scope["client"] = (address.strip("[]"), 0)
        return scope

    def trusts(self, scope: Scope) -> bool:
        number = number_of((scope.get("client") or ("",))[0])
        return number is not None and any(number in network for network in self.trusted)

    def stripped(self, scope: Scope) -> Scope:
        """Without the prefix of a proxy that leaves it on."""
        prefix = urlsplit(self.root_path).path.rstrip("/")
        path = scope["path"]
        if not prefix or path != prefix and not path.startswith(f"{prefix}/"):
            return scope
        path = path[len(prefix):] or "/"
        return {**scope, "path": path, "raw_path": path.encode()}
