"""What of the running page can be reached over loopback, and by whom. Nothing is mended here: what is, is told."""

from __future__ import annotations

import json
import os
from pathlib import Path

from bench.trust.found import Found, Progress
from bench.trust.server import ROOT, Page
from bench.trust.wire import Answer, ask, endpoint, events

UP = "../" * 8
SECRETS = ["assets/base/model.safetensors", "app.py", "compare/engine/local.py", ".git/config", "requirements.lock"]
EVIL = "http://evil.example"
MARKS = (b"root:", b"import annotations", b"[core]", b"daemon")  # what must be in no answer


def forbidden_paths() -> list[str]:
    """Addresses of files that nobody should get, spelled in the ways that servers have fallen for."""
    found = []
    for file in [
        *(str(ROOT / s) for s in SECRETS),
        *SECRETS,
        "/etc/passwd",
        UP + "etc/passwd",
        "/proc/self/environ",
        "//etc/passwd",
        "/etc/./passwd",
        str(Path.home() / ".bash_history"),
    ]:
        found += [f"/gradio_api/file={file}", f"/file={file}", f"/gradio_api/file/{file}"]
    for place in (
        "static",
        "assets",
        "svelte",
        "gradio_api/file=assets",
        "custom_component/0/client/component",
        "static/img",
        "gradio_api/custom_component/0/client/component",
    ):
        found += [
            f"/{place}/{UP}etc/passwd",
            f"/{place}/" + "..%2f" * 8 + "etc/passwd",
            f"/{place}/" + "%2e%2e/" * 8 + "etc/passwd",
            f"/{place}/" + "..%5c" * 8 + "etc/passwd",
            f"/{place}//etc/passwd",
            f"/{place}/..%00/etc/passwd",
        ]
    return found


def inner_addresses(port: int) -> list[str]:
    """Requests that a server could be talked into making for a stranger."""
    return [
        f"/gradio_api/{what}={url}"
        for what in ("file", "proxy")
        for url in (
            f"http://127.0.0.1:{port}/config",
            f"http://localhost:{port}/config",
            "http://169.254.169.254/latest/meta-data/",
            f"http://[::1]:{port}/config",
            f"http://2130706433:{port}/config",
            "http://10.0.0.1/",
        )
    ]


def check_paths(page: Page, found: Found) -> None:
    paths = forbidden_paths() + inner_addresses(page.port)
    progress, statuses = Progress("access, paths", len(paths), "addresses"), {}
    for i, path in enumerate(paths):
        answer = ask(page.port, "GET", path)
        statuses[answer.status] = statuses.get(answer.status, 0) + 1
        secret = any(mark in answer.body for mark in MARKS)
        # the page itself is served with 200 for addresses that a browser would have shortened to it
        found.check(
            answer.status >= 400 and answer.status != 500 and not secret,
            f"{path[:90]} is answered with {answer.status}" + (" and the file" if secret else ""),
        )
        progress.at(i + 1)
    found.figures |= {
        "forbidden addresses tried": len(paths),
        "their statuses": {str(k): v for k, v in sorted(statuses.items())},
    }


def allows(answer: Answer) -> bool:
    return answer.headers.get("access-control-allow-origin") in (EVIL, "*", "null")


def check_origins(page: Page, found: Found) -> None:
    """A page of another site may neither read nor ask, and no other name of ours is answered (DNS rebinding)."""
    asked = {"Origin": EVIL, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    call = json.dumps({"data": ["问", "", [1.0], 1, 0.0, 1.0, 0, None]}).encode()
    for path in ("/gradio_api/call/compare", "/gradio_api/queue/join", "/gradio_api/upload", "/config"):
        found.check(not allows(ask(page.port, "OPTIONS", path, headers=asked)), f"preflight of {path} lets {EVIL} in")
        for origin in (EVIL, "null"):
            for kind in ("application/json", "text/plain"):  # the second needs no preflight
                answer = ask(page.port, "POST", path, call, {"Origin": origin, "Content-Type": kind})
                found.check(not allows(answer), f"POST {path} may be read by {origin}")
                found.check(answer.status in (403, 404), f"POST {path} of {origin} is answered with {answer.status}")
    own = {"Origin": page.url.rstrip("/"), "Content-Type": "application/json"}
    asked = ask(page.port, "POST", "/gradio_api/call/compare", call, own)
    found.check(asked.status == 200, f"the page's own POST is answered with {asked.status}")
    found.figures["POST of another site"] = answer.status


def check_hosts(page: Page, found: Found) -> None:
    """A name that somebody else's name server points here is not ours."""
    statuses = set()
    for host in ("evil.example", f"evil.example:{page.port}", "localhost.evil.example", "127.0.0.1.evil.example", ""):
        for path in ("/", "/config", "/health", "/gradio_api/queue/data?session_hash=x", "/gradio_api/heartbeat/x"):
            answer = ask(page.port, "GET", path, headers={"Host": host})
            statuses.add(answer.status)
            found.check(answer.status == 400, f"{path} under host {host!r} is answered with {answer.status}")
    found.figures["a foreign Host header (DNS rebinding)"] = ", ".join(map(str, sorted(statuses)))


def check_secrets(page: Page, found: Found) -> None:
    """No path of this machine in what anyone may read, nor in an error."""
    hidden = {str(ROOT).encode(), str(Path.home()).encode(), os.fsencode(page.log)} - {b"/"}
    for path in (
        "/",
        "/config",
        "/gradio_api/info",
        "/theme.css",
        "/manifest.json",
        "/robots.txt",
        "/gradio_api/openapi.json",
    ):
        body = ask(page.port, "GET", path, limit=1 << 26).body
        shown = [h.decode() for h in hidden if h in body]
        found.check(not shown, f"{path} shows {shown}")
    number = endpoint(page.port)
    for wrong in (
        ["问", "", "text", "x", {}, [], None],
        [None] * 7,
        [7],
        ["问", "", [float("1e400")], 1e400, 0, 1, 0],
        [{"path": "/etc/passwd"}],
    ):
        said = b"".join(json.dumps(e).encode() for e in events(page.port, wrong, fn_index=number))
        found.check(
            b"Traceback" not in said and not any(h in said for h in hidden) and b"root:" not in said,
            f"wrong arguments {str(wrong)[:40]} show {said[:200]!r}",
        )


def check_shut(page: Page, found: Found) -> None:
    """Doors of Gradio that we leave shut: live editing, monitoring, reloading, fetching, large uploads."""
    for method, path in (
        ("POST", "/gradio_api/vibe-edit"),
        ("POST", "/gradio_api/undo-vibe-edit"),
        ("GET", "/monitoring/key"),
        ("GET", "/gradio_api/dev/reload"),
        ("GET", "/gradio_api/deep_link"),
        ("GET", "/gradio_api/token"),
        ("GET", "/gradio_api/file=https://example.org/"),
    ):
        answer = ask(page.port, method, path, b"{}" if method == "POST" else None)
        found.check(answer.status >= 400, f"{method} {path} is answered with {answer.status}")
    part = b'--x\r\nContent-Disposition: form-data; name="files"; filename="../../a.bin"\r\n\r\n%s\r\n--x--\r\n'
    form = {"Content-Type": "multipart/form-data; boundary=x"}
    large = ask(page.port, "POST", "/gradio_api/upload", part % (b"a" * 9_000_000), form)
    found.check(large.status == 413, f"an upload of 9 MB is answered with {large.status}")
    small = ask(page.port, "POST", "/gradio_api/upload", part % b"a", form)
    found.figures |= {"upload of 9 MB": large.status, "upload of one byte, where training is allowed": small.status}
    if small.status == 200:
        path = json.loads(small.body)[0]
        found.check(".." not in path, f"an upload was put at {path}")


def check_listening(page: Page, found: Found) -> None:
    where = page.listening()
    found.check(where == {"127.0.0.1"}, f"the page listens on {sorted(where)}")
    found.figures["listens on"] = ", ".join(sorted(where))


CHECKS = (check_listening, check_paths, check_hosts, check_origins, check_secrets, check_shut)


def run() -> Found:
    found = Found()
    with Page() as page:
        for check in CHECKS:
            check(page, found)
        found.check(page.alive(), "the page is down")
    return found
