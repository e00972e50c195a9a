"""The page by gzip: Gradio compresses only what has a file's ending, and the page, by far the largest, has none."""

from __future__ import annotations

from starlette.middleware.gzip import GZipMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

LEVEL = 6  # of 9: 0.8 MB in some 15 ms


class CompressedPage:
    """ASGI middleware. Everything else passes as it is, streams above all."""

    def __init__(self, app: ASGIApp):
        self.app, self.compressed = app, GZipMiddleware(app, compresslevel=LEVEL)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        page = scope["type"] == "http" and scope["path"].endswith(("/", "/config"))
        await (self.compressed if page else self.app)(scope, receive, send)
