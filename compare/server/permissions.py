"""Who may start a training or load an adapter from the page: this machine's own visitors alone, from this very page.

A page open to others would let them use the machine; and any web page that a visitor has open elsewhere can send
requests to localhost. So both are closed unless the page is served on a loopback address, and each request that
changes something has to come from the page itself (Origin) by a loopback name (Host: a rebound DNS name is none).
request_filter.py holds as much for all of Gradio's addresses, where a page is served with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from compare.server.request_filter import is_loopback, name_of
from lens.errors import Unavailable

# What is permitted → why it is not: switched off, on a Space, open to others.
CLOSED = {"training": ("training-off", "training-on-space", "training-open-to-others"),
          "loading": ("loading-off", "loading-on-space", "loading-open-to-others")}


@dataclass(frozen=True)
class Permission:
    """Whether trainings may be started, or adapters loaded, here. `closed`: why not; `anywhere`: under other names
    than this machine's."""

    closed: Unavailable | None
    anywhere: bool = False

    @classmethod
    def of(cls, host: str | None, share: bool, wanted: bool | None, environ: Mapping[str, str],
           what: str = "training") -> Permission:
        """As the page is about to be served. `host`: what it listens on; `wanted`: `--allow-training` (True),
        `--no-allow-training` (False), or neither (None); `what`: of `CLOSED`."""
        off, on_space, open_to = CLOSED[what]
        if wanted is False:
            return cls(Unavailable(off))
        if environ.get("SPACE_ID"):
            return cls(Unavailable(on_space))
        host = host or environ.get("GRADIO_SERVER_NAME") or "127.0.0.1"
        open_to_others = share or not is_loopback(host)
        if open_to_others and not wanted:
            return cls(Unavailable(open_to, host="--share" if share else host[:80]))
        return cls(None, anywhere=bool(wanted))

    def check(self, headers: Mapping[str, str]) -> None:
        """Of a request that changes something. Raises Unavailable unless it comes from the page, on this machine."""
        if self.closed:
            raise self.closed
        headers = {str(name).lower(): str(value) for name, value in headers.items()}
        host, origin = headers.get("host", ""), headers.get("origin", "")
        ours = bool(host) and origin in (f"http://{host}", f"https://{host}")
        site = headers.get("sec-fetch-site", "same-origin")
        if not ours or site != "same-origin" or not (self.anywhere or is_loopback(name_of(host))):
            raise Unavailable("request-from-elsewhere", origin=origin[:80] or "—", host=host[:80] or "—")
