"""How the page is served: every option declared once, and Gradio launched by them."""

from __future__ import annotations

import argparse
import ipaddress
import os
from dataclasses import dataclass, fields
from pathlib import Path

from compare import event_log as events
from compare.server.permissions import Permission
from compare.server.request_filter import MEGABYTE, RequestFilter, Rules, is_loopback, name_of
from lens.embedded import SHIPPED_ADAPTERS

LOOPBACK = "127.0.0.1"
RUNS = Path("runs")  # where `python -m train --output runs/mine` writes, as the README has it
SESSIONS = 500  # visitors whose state is kept; the one that asked longest ago is forgotten first
EVENTS = 200  # past calls that Gradio keeps for its own statistics, which nobody here reads
PUBLIC = "*.gradio.live"  # where --share puts the page


def from_here(path: Path) -> Path:
    """A path as it is seen from the current directory where it lies below it: a page need not show all of it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def login(text: str) -> tuple[str, str]:
    """USER:PASSWORD as a pair."""
    user, colon, password = text.partition(":")
    if not (user and colon and password):
        raise argparse.ArgumentTypeError("no user and password; allowed: USER:PASSWORD, such as me:a-long-secret")
    return user, password


def host_name(text: str) -> str:
    """A name as a browser's address shows it, `*.its.domain`, or `*`; without scheme, port and path."""
    name = name_of(text)
    if not name or ":" in text and "[" not in text or "*" in name[1:] or name[0] == "*" and name[1:2] not in ("", "."):
        raise argparse.ArgumentTypeError(f"{text!r} is no host name; allowed: a name without scheme and port, such as "
                                         "lens.example.org, or *.example.org, or * for any")
    return name


def network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """An IP number, or a network such as 10.0.0.0/8."""
    try:
        return ipaddress.ip_network(text)
    except ValueError as err:
        raise argparse.ArgumentTypeError(f"{text[:80]!r} is no IP number or network; allowed: such as 127.0.0.1, ::1, "
                                         "172.16.0.0/12") from err


def prefix(text: str) -> str:
    """A path such as /lens, without its last slash, or a whole address."""
    if not text.startswith(("/", "http://", "https://")) or set(text) & set("?# "):
        raise argparse.ArgumentTypeError(f"{text[:80]!r}; allowed: a path that begins with /, such as /lens")
    return text.rstrip("/")


def at_least(low: float, kind: type = int):
    """An argparse type: a number from `low` on."""
    def number(text: str):
        try:
            value = kind(text)
        except ValueError:
            value = low - 1
        if not low <= value < float("inf"):
            raise argparse.ArgumentTypeError(f"{text!r}; allowed: a number from {low} on")
        return value
    return number


@dataclass(frozen=True)
class Serving:
    """Where and for whom the page is served. Declared here for `python app.py` and the cluster's page alike."""

    host: str | None = None
    port: int | None = None
    share: bool = False
    auth: tuple[str, str] | None = None
    root_path: str | None = None
    allowed_hosts: tuple[str, ...] = ()
    trusted_proxy: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = ()
    queue: int = 64
    max_body_mb: float = 8
    max_upload_mb: float = 8
    allow_training: bool | None = None
    allow_loading: bool | None = None
    loading_root: tuple[Path, ...] = (RUNS, from_here(SHIPPED_ADAPTERS))
    log_questions: bool = False

    @classmethod
    def of(cls, args: argparse.Namespace) -> Serving:
        given = {f.name: getattr(args, f.name) for f in fields(cls)}
        several = {name: tuple(given[name]) for name in ("allowed_hosts", "trusted_proxy", "loading_root")}
        return cls(**{**given, **several})

    @property
    def address(self) -> str:
        """The name or number it listens on."""
        return self.host or os.environ.get("GRADIO_SERVER_NAME") or LOOPBACK

    @property
    def permission(self) -> Permission:
        """May a visitor start a training, and upload the rows for it?"""
        return Permission.of(self.address, self.share, self.allow_training, os.environ)

    @property
    def may_load(self) -> Permission:
        """May a visitor load an adapter, from a folder below `loading_root`, an upload or the hub?"""
        return Permission.of(self.address, self.share, self.allow_loading, os.environ, "loading")

    def rules(self) -> Rules:
        """On loopback: under loopback's names and those given. On more: by number and under the names given, or under
        any where none is given."""
        named = (*self.allowed_hosts, *((PUBLIC,) if self.share else ()))
        spaces = tuple(filter(None, os.environ.get("SPACE_HOST", "").split(",")))
        alone = is_loopback(self.address)
        return Rules((*named, *spaces) if named or alone else ("*",), (*named, *spaces), self.max_body_mb,
                     0 if self.permission.closed and self.may_load.closed else self.max_upload_mb, numbers=not alone)

    def proxies(self) -> tuple:
        """Whose X-Forwarded-* is believed: of those given; --share's tunnel; a Space's own, which alone gets there."""
        if os.environ.get("SPACE_ID"):
            return network("0.0.0.0/0"), network("::/0")
        return (*self.trusted_proxy, *((network(LOOPBACK),) if self.share else ()))

    def launch(self, page, engine, **options) -> None:
        """Serve a `gr.Blocks` over its engine until interrupted. `options`: more of `gr.Blocks.launch`."""
        from starlette.middleware import Middleware  # here: reading arguments waits for no page

        from compare.page.frame.theme import theme
        from compare.page.page import head
        from compare.page.shared.api import speaks_mcp
        from compare.server.compressed_page import CompressedPage
        from compare.server.health import Health
        from compare.server.openai_api.routes import OpenAiApi
        from compare.server.proxy_headers import ProxyHeaders
        from compare.server.sessions import SessionCleaner
        from compare.server.token_login import TokenLogin

        events.listen(self.log_questions)
        os.environ.setdefault("GRADIO_ANALYTICS_MAX_EVENTS", str(EVENTS))
        os.environ["FORWARDED_ALLOW_IPS"] = ""  # uvicorn would believe any process of this machine
        page.queue(max_size=self.queue)
        root_path = self.root_path or os.environ.get("GRADIO_ROOT_PATH") or ""
        before = [Middleware(ProxyHeaders, rules=self.rules(), trusted=self.proxies(), root_path=root_path),
                  Middleware(RequestFilter, rules=self.rules()), Middleware(SessionCleaner, page=page),
                  Middleware(TokenLogin, login=self.auth), Middleware(CompressedPage)]
        routes = [Health(engine, page).route(), *OpenAiApi(engine, self.queue).routes()]
        page.launch(server_name=self.address, server_port=self.port, share=self.share, auth=self.auth,
                    root_path=self.root_path, theme=theme(), head=head(), footer_links=["api"],
                    run_history=False, max_file_size=int(self.max_upload_mb * MEGABYTE), ssr_mode=False,
                    show_error=False, enable_monitoring=False, mcp_server=speaks_mcp(), state_session_capacity=SESSIONS,
                    app_kwargs={"middleware": before, "routes": routes}, **options)


def add_serving_options(parser: argparse.ArgumentParser, host: str | None = None, port: int | None = None) -> None:
    """The options of `Serving`; `host` and `port` are their defaults."""
    add, most = parser.add_argument, Serving()
    add("--host", default=host, help=f"address to listen on (default: {host or LOOPBACK + ', or GRADIO_SERVER_NAME'})")
    add("--port", type=int, default=port, help=f"(default: {port or '7860 or the next free one'})")
    add("--share", action="store_true", help="a public link by Gradio (needs the network)")
    add("--auth", type=login, metavar="USER:PASSWORD", default=os.environ.get("LENS_AUTH"),
        help="ask visitors for these (default: LENS_AUTH, which no list of processes shows)")
    add("--root-path", type=prefix, metavar="PATH",
        help="where a proxy serves the page, such as /lens, stripped by it or not (default: at the root)")
    add("--allowed-hosts", nargs="+", type=host_name, metavar="NAME", default=[],
        help="answer under these host names only, beside localhost, such as lens.example.org or *.example.org "
             "(default: localhost alone while listening on loopback, else any)")
    add("--trusted-proxy", nargs="+", type=network, metavar="IP", default=[],
        help="believe X-Forwarded-Host, -Proto and -For of these alone, such as 127.0.0.1 or 172.16.0.0/12")
    add("--queue", type=at_least(1), metavar="N", default=most.queue,
        help=f"visitors who may wait; the next is told that the line is full (default: {most.queue})")
    add("--max-body-mb", type=at_least(0.01, float), metavar="MB", default=most.max_body_mb,
        help=f"the most that a request may bring (default: {most.max_body_mb:g})")
    add("--max-upload-mb", type=at_least(0.01, float), metavar="MB", default=most.max_upload_mb,
        help="the most that is uploaded at once, rows or an adapter, where training or loading is allowed "
             f"(default: {most.max_upload_mb:g})")
    add("--allow-training", action=argparse.BooleanOptionalAction, default=None,
        help="may visitors upload rows and train? (default: only where nobody but this machine can reach the page)")
    add("--allow-loading", action=argparse.BooleanOptionalAction, default=None,
        help="may visitors load adapters? (default: only where nobody but this machine can reach the page)")
    add("--loading-root", nargs="+", type=Path, metavar="DIR", default=list(most.loading_root),
        help=f"adapters may be loaded from folders below these alone (default: {RUNS}, and those "
             "that ship with the project)")
    add("--log-questions", action="store_true", help="show the text of questions in the log on stderr (default: not)")
