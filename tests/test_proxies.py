"""The page behind nginx and Caddy, as deploy/ has them: at the root and under a prefix, stripped and kept, with TLS
before it and the name passed on or rewritten. The programs are Debian's; what is behind has no model."""

from __future__ import annotations

import contextlib
import ipaddress
import re
import shutil
import socket
import socketserver
import ssl
import subprocess
import threading
import time
from pathlib import Path

import gradio as gr
import httpx
import pytest
from one_tab import StandInEngine, loaded
from playwright.sync_api import expect

from bench.shared.served import ROOT, free_port
from compare.server.launch import Serving
from compare.server.proxy_headers import ProxyHeaders
from compare.server.request_filter import Rules

NAME = "lens.localhost"  # which a browser finds on this machine, and which is not one of loopback's names to us
PROGRAMS = {"nginx": shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin"), "caddy": shutil.which("caddy")}
PLACES = {"root": "", "kept": "/lens", "stripped": "/lens"}
PAUSE = 0.4  # seconds between two pieces of a slow answer


def slow(text: str):
    for i in range(1, 4):
        time.sleep(PAUSE)
        yield text * i


@pytest.fixture(scope="module")
def behind():
    """`behind(root_path)`: the port of a small page that is served as ours is; one for each path."""
    pages: dict[str, gr.Blocks] = {}

    def launch(root_path: str) -> int:
        if root_path not in pages:
            with gr.Blocks() as page:
                text, out = gr.Textbox(label="words", elem_id="words"), gr.Textbox(label="answer", elem_id="answer")
                text.submit(slow, text, out, api_name="slow")
            serving = Serving(port=free_port(), root_path=root_path or None, allowed_hosts=(NAME,),
                              trusted_proxy=(ipaddress.ip_network("127.0.0.1"),))
            engine = StandInEngine(loaded("lens"))
            serving.launch(page, engine, prevent_thread_lock=True, quiet=True)
            pages[root_path] = page
        return pages[root_path].server_port

    yield launch
    for page in pages.values():
        page.close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tls")
    key, pem = folder / "lens.key", folder / "lens.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={NAME}",
                    "-addext", f"subjectAltName=DNS:{NAME}", "-keyout", key, "-out", pem], check=True,
                   capture_output=True)
    return pem, key


def changed(text: str, *changes: tuple[str, str]) -> str:
    """The shipped file with what a site of one's own changes, each of which must stand there."""
    for old, new in changes:
        assert old in text, f"{old!r} is not in the file that is shipped"
        text = text.replace(old, new)
    return text


def nginx_conf(place: str, rewritten: bool, port: int, app: int, pem: Path, key: Path, folder: Path) -> list:
    site = changed((ROOT / "deploy" / "nginx.conf").read_text(), ("listen 443", f"listen 127.0.0.1:{port}"),
                   ("/etc/ssl/certs/lens.pem", str(pem)), ("/etc/ssl/private/lens.key", str(key)),
                   ("http://127.0.0.1:7860;", f"http://127.0.0.1:{app}{'/' * (place == 'stripped')};"),
                   ("location / {", f"location {PLACES[place]}/ {{"))
    if rewritten:
        site = changed(site, ("Host              $http_host", "Host              $proxy_host"))
    paths = "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi",
                                                                       "scgi"))
    (folder / "nginx.conf").write_text(f"daemon off; pid {folder}/pid; error_log {folder}/log; worker_processes 1;\n"
                                       f"events {{}}\nhttp {{\naccess_log off;\n{paths}{site}}}\n")
    return [PROGRAMS["nginx"], "-c", folder / "nginx.conf", "-e", folder / "log"]


def caddyfile(place: str, rewritten: bool, port: int, app: int, pem: Path, key: Path, folder: Path) -> list:
    handle = {"root": "handle {", "kept": "handle /lens/* {", "stripped": "handle_path /lens/* {"}[place]
    site = changed((ROOT / "deploy" / "Caddyfile").read_text(), ("\tflush_interval -1", "\tflush_interval -1" + (
                       "\n\t\t\theader_up Host {upstream_hostport}" * rewritten)), ("\thandle {", f"\t{handle}"),
                   ("lens.example.org {", f"https://{NAME}:{port} {{\n\tbind 127.0.0.1\n\ttls {pem} {key}"),
                   ("127.0.0.1:7860 {", f"127.0.0.1:{app} {{"))
    (folder / "Caddyfile").write_text("{\n\tadmin off\n\tauto_https disable_redirects\n}\n" + site)
    return [PROGRAMS["caddy"], "run", "--adapter", "caddyfile", "--config", folder / "Caddyfile"]


@contextlib.contextmanager
def started(program: str, place: str, rewritten: bool, app: int, certificate, folder: Path):
    """The port of `program` in front of port `app`, with its name `rewritten` or not."""
    if not PROGRAMS[program]:
        pytest.skip(f"{program} is missing; install it: apt-get install {program}")
    port, write = free_port(), nginx_conf if program == "nginx" else caddyfile
    command = write(place, rewritten, port, app, *certificate, folder)
    env = {"HOME": str(folder), "PATH": "/usr/bin:/bin", "XDG_DATA_HOME": str(folder)}
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env)
    try:
        until = time.monotonic() + 30
        while not listens(port):
            assert running.poll() is None and time.monotonic() < until, f"{program} did not start: {command}"
            time.sleep(0.05)
        yield port
    finally:
        running.terminate()
        running.wait(20)


@pytest.fixture
def proxied(behind, certificate, tmp_path, request):
    """The page's address behind `program`, at `place`, with the name `rewritten` or not."""
    program, place, rewritten = request.param
    with started(program, place, rewritten, behind(PLACES[place]), certificate, tmp_path) as port:
        yield f"https://{NAME}:{port}{PLACES[place]}/"


def listens(port: int) -> bool:
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


class ByName(httpx.HTTPTransport):
    """Finds NAME on this machine, whatever the resolver says."""

    def handle_request(self, request):
        request.extensions["sni_hostname"] = NAME
        request.url = request.url.copy_with(host="127.0.0.1")
        return super().handle_request(request)


def arrivals(client: httpx.Client, method: str, url: str, **options) -> list[float]:
    """When each piece of a stream came, in seconds from the first."""
    with client.stream(method, url, **options) as answer:
        assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/event-stream")
        came = [time.monotonic() for line in answer.iter_lines() if line.startswith("data:")]
    return [at - came[0] for at in came]


# The quick half of all: with each program each place once, the name passed on and rewritten in turn.
ALL = [pytest.param((program, place, rewritten), id=f"{program}-{place}-{'rewritten' if rewritten else 'passed'}",
                    marks=[] if rewritten is ((i + j) % 2 == 1) else pytest.mark.slow)
       for i, program in enumerate(PROGRAMS) for j, place in enumerate(PLACES) for rewritten in (False, True)]


@pytest.mark.parametrize("proxied", ALL, indirect=True)
def test_behind_a_proxy_the_page_loads_streams_and_checks_origins(proxied):
    origin = re.match(r"https://[^/]+", proxied)[0]
    with httpx.Client(base_url=proxied, transport=ByName(verify=False), timeout=30) as client:
        page = client.get("")
        root = re.search(r'"root":"([^"]+)"', page.text)[1]
        assert page.status_code == 200 and root == proxied.rstrip("/"), root
        script = re.search(r'(?:src|href)="([^"]*assets/[^"]+\.js)"', page.text)[1]
        assert "javascript" in client.get(httpx.URL(proxied).join(script)).headers["content-type"]
        assert client.get("health").json()["status"] == "ok" and client.get("config").json()["root"] == root
        call = "gradio_api/call/slow"
        event = client.post(call, json={"data": ["ab"]}, headers={"Origin": origin}).json()["event_id"]
        came = arrivals(client, "GET", f"{call}/{event}")
        assert came[-1] > 1.5 * PAUSE, f"held back until the end: {came}"
        asked = {"model": "lens", "messages": [{"role": "user", "content": "a"}], "stream": True}
        assert arrivals(client, "POST", "v1/chat/completions", json=asked)
        for bad in ("https://evil.example", origin.replace(NAME, "evil.localhost"), "null"):
            assert client.post(call, json={"data": ["ab"]}, headers={"Origin": bad}).status_code == 403, bad


@pytest.mark.parametrize("proxied", [("nginx", "kept", True), ("caddy", "stripped", False)], indirect=True,
                         ids=["nginx", "caddy"])
def test_behind_a_proxy_a_browser_asks_and_is_answered(proxied, browser):
    context = browser.new_context(ignore_https_errors=True)
    page = context.new_page()
    asked: list[str] = []
    page.on("request", lambda r: asked.append(r.url))
    try:
        page.goto(proxied)
        page.locator("#words textarea, #words input").fill("ab")
        page.locator("#words textarea, #words input").press("Enter")
        expect(page.locator("#answer textarea, #answer input")).to_have_value("ababab", timeout=30_000)
        assert not [url for url in asked if not url.startswith((proxied, "data:", "blob:"))]
    finally:
        context.close()


class Switching(socketserver.StreamRequestHandler):
    """Takes a websocket's handshake, then says twice the two bytes that come."""

    def handle(self) -> None:
        head = b"".join(iter(self.rfile.readline, b"\r\n")).lower()
        if b"upgrade: websocket" in head:
            self.wfile.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
            self.wfile.write(self.rfile.read(2) * 2)


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_websocket_passes_though_gradio_has_none_by_now(program, certificate, tmp_path):
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Switching) as there:
        threading.Thread(target=there.serve_forever, daemon=True).start()
        with started(program, "root", False, there.server_address[1], certificate, tmp_path) as port:
            trust = ssl.create_default_context(cafile=certificate[0])
            with trust.wrap_socket(socket.create_connection(("127.0.0.1", port), 10), server_hostname=NAME) as wire:
                wire.sendall(f"GET / HTTP/1.1\r\nHost: {NAME}:{port}\r\nUpgrade: websocket\r\n"
                             "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                             "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode())
                answer = wire.makefile("rb")
                assert b" 101 " in answer.readline()
                assert list(iter(answer.readline, b"\r\n"))
                wire.sendall(b"ab")
                assert answer.read(4) == b"abab"
        there.shutdown()


# ---- what is believed of whom


def seen(peer: str, trusted: str = "127.0.0.1", root_path: str = "", **scope) -> dict:
    headers = ProxyHeaders(None, Rules(), (ipaddress.ip_network(trusted),), root_path)
    return headers.stripped(headers.told({"type": "http", "scheme": "http", "client": (peer, 5), "path": "/", **scope}))


FORWARDED = [(b"host", b"127.0.0.1:7860"), (b"x-forwarded-host", b"evil.example, lens.example.org"),
             (b"x-forwarded-proto", b"https"), (b"x-forwarded-for", b"10.9.9.9, 1.2.3.4"), (b"forwarded", b"for=1"),
             (b"accept", b"*/*"), (b"x-gradio-server", b"http://evil.example")]


def test_a_proxy_that_was_named_is_believed_in_what_it_says_itself():
    found = seen("127.0.0.1", headers=FORWARDED)
    assert found["headers"] == [(b"host", b"lens.example.org"), (b"accept", b"*/*")]
    assert (found["scheme"], found["client"]) == ("https", ("1.2.3.4", 0))


@pytest.mark.parametrize("peer", ["10.0.0.1", "::1", ""])
def test_nobody_else_is_believed(peer):
    found = seen(peer, headers=FORWARDED)
    assert found["headers"] == [(b"host", b"127.0.0.1:7860"), (b"accept", b"*/*")]
    assert (found["scheme"], found["client"]) == ("http", (peer, 5))


@pytest.mark.parametrize("path, stripped", [("/lens", "/"), ("/lens/config", "/config"), ("/config", "/config"),
                                            ("/lenses", "/lenses"), ("/lens/lens/x", "/lens/x")])
def test_a_prefix_is_taken_off_once_where_the_proxy_left_it_on(path, stripped):
    for root_path in ("/lens", "/lens/", "https://example.org/lens"):
        found = seen("::1", root_path=root_path, headers=[], path=path, raw_path=path.encode())
        assert (found["path"], found["raw_path"]) == (stripped, stripped.encode())


def test_a_rebound_name_is_refused_though_it_names_another(behind):
    """A page elsewhere can send X-Forwarded-Host from this very machine, which is trusted here."""
    at = f"http://127.0.0.1:{behind('')}/config"
    rebound = {"Host": "evil.example", "X-Forwarded-Host": "localhost"}
    assert httpx.get(at, headers=rebound).status_code == 400
    assert httpx.get(at, headers={"X-Forwarded-Host": "evil.example"}).status_code == 400
    assert httpx.get(at, headers={"X-Forwarded-Host": NAME}).json()["root"] == f"http://{NAME}"
