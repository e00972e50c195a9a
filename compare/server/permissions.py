"""Who may start a training from the page: nobody but this machine's own visitors, from this very page.

A page open to others would let them use the machine; and any web page that a visitor has open elsewhere can send
requests to localhost. So training is closed unless the page is served on a loopback address, and each request that
changes something has to come from the page itself (Origin) by a loopback name (Host: a rebound DNS name is none).
doors.py holds as much for all of Gradio's addresses, where a page is served with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from compare.page.shared.words import Words
from compare.server.request_filter import is_loopback, name_of
from lens.errors import LensError

OFF = Words("这里没有开放网页上的训练；可以在命令行里训练：python -m train --output runs/mine。",
            "Training on the page is not open here; train on the command line: python -m train --output runs/mine.")
SPACE = Words("在 Space 上不能训练：那里的机器是大家共用的。请在自己的机器上运行 python app.py。",
              "There is no training on a Space, whose machine is everyone's. Run python app.py on your own.")
HOST = Words("这个网页对别的机器也开放（{host}），所以关掉了训练；在本机用 python app.py 打开，或由主机的主人"
             "加上 --allow-training。",
             "This page is open to other machines ({host}), so training is off; open it on your own machine with "
             "python app.py, or let the host's owner add --allow-training.")
ELSEWHERE = Words("这个请求不是从本页发出的（Origin {origin}，Host {host}），没有执行。请在本页上按按钮。",
                  "This request did not come from this page (Origin {origin}, Host {host}), so nothing was done. "
                  "Use the button on the page itself.")


class Refused(LensError):
    """A training that may not, or cannot, be started. `html` says why in both languages."""

    def __init__(self, words: Words, **values: object):
        super().__init__(words.text(**values))
        self.html = words.html(**values)


@dataclass(frozen=True)
class Permission:
    """Whether trainings may be started here. `closed`: why not; `anywhere`: under other names than this machine's."""

    closed: Refused | None
    anywhere: bool = False

    @classmethod
    def of(cls, host: str | None, share: bool, wanted: bool | None, environ: Mapping[str, str]) -> Permission:
        """As the page is about to be served. `host`: what it listens on; `wanted`: `--allow-training` (True),
        `--no-allow-training` (False), or neither (None)."""
        if wanted is False:
            return cls(Refused(OFF))
        if environ.get("SPACE_ID"):
            return cls(Refused(SPACE))
        host = host or environ.get("GRADIO_SERVER_NAME") or "127.0.0.1"
        open_to_others = share or not is_loopback(host)
        if open_to_others and not wanted:
            return cls(Refused(HOST, host="--share" if share else host))
        return cls(None, anywhere=bool(wanted))

    def check(self, headers: Mapping[str, str]) -> None:
        """Of a request that changes something. Raises Refused unless it comes from the page, on this machine."""
        if self.closed:
            raise self.closed
        host, origin = headers.get("host", ""), headers.get("origin", "")
        own = bool(host) and origin in (f"http://{host}", f"https://{host}")
        site = headers.get("sec-fetch-site", "same-origin")
        if not own or site != "same-origin" or not (self.anywhere or is_loopback(name_of(host))):
            raise Refused(ELSEWHERE, origin=origin[:80] or "—", host=host[:80] or "—")
