"""A program's way in where the page asks for a password: `Authorization: Bearer USER:PASSWORD`, or HTTP's Basic.

Gradio knows a visitor by a cookie alone, and leaves MCP's address and ours open. Here a right token becomes such a
cookie, so that it holds for each of Gradio's addresses, and without either the programs' addresses are shut.
"""

from __future__ import annotations

import base64
import hmac
import secrets
from dataclasses import dataclass, field

from anyio import to_thread
from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.types import ASGIApp, Receive, Scope, Send

from compare.server.openai_api.routes import refused
from lens.errors import BadSetting

PROGRAMS = ("/v1", "/gradio_api/mcp")


@dataclass
class TokenLogin:
    """ASGI middleware inside Gradio's app. `login`: the user and the password; None lets everybody in."""

    app: ASGIApp
    login: tuple[str, str] | None
    session: str = field(default_factory=lambda: secrets.token_urlsafe(32))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.login is None or scope["type"] != "http":
            return await self.app(scope, receive, send)
        gradio, headers, path = scope["app"], Headers(scope=scope), scope["path"]
        for_programs = any(path == at or path.startswith(f"{at}/") for at in PROGRAMS)
        if self.is_right(headers.get("authorization", "")):
            gradio.tokens[self.session] = self.login[0]
            cookie = f"access-token-{gradio.cookie_id}={self.session}".encode()
            others = [(name, value) for name, value in scope["headers"] if name != b"cookie"]
            scope = {**scope, "headers": [*others, (b"cookie", cookie)]}
            if path.startswith(PROGRAMS[1]):
                await to_thread.run_sync(self.let_mcp_in, gradio.get_blocks().mcp_server_obj)
        elif for_programs and not self.has_cookie(gradio, headers):
            err = BadSetting("login-missing")
            return await refused(err, **{"WWW-Authenticate": "Bearer"})(scope, receive, send)
        await self.app(scope, receive, send)

    def is_right(self, given: str) -> bool:
        kind, _, token = given.partition(" ")
        if kind.lower() == "basic":
            try:
                token = base64.b64decode(token, validate=True).decode()
            except ValueError:
                return False
        right = kind.lower() in ("bearer", "basic")
        return right and hmac.compare_digest(token.strip().encode(), ":".join(self.login or ()).encode())

    @staticmethod
    def has_cookie(gradio, headers: Headers) -> bool:
        """Has the visitor logged in on the page?"""
        cookies = cookie_parser(headers.get("cookie", ""))
        return any(cookies.get(f"access-token-{kind}{gradio.cookie_id}") in gradio.tokens for kind in ("", "unsecure-"))

    def let_mcp_in(self, server) -> None:
        """Gradio's MCP server asks its own page as a client, made at the first call and without a login."""
        if server and server._client_instance is None:
            from gradio_client import Client

            server._client_instance = Client(
                server.local_url, download_files=False, verbose=False, analytics_enabled=False, _skip_components=False,
                headers={"x-gradio-user": "mcp", "Authorization": f"Bearer {':'.join(self.login or ())}"})
