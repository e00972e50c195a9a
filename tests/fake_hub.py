"""A hub on this machine: what huggingface_hub asks for, answered out of folders named OWNER/NAME."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
ABOUT = re.compile(r"/api/models/(?P<repo>[^/]+/[^/]+)(/revision/[^/]+)?")
TREE = re.compile(r"/api/models/(?P<repo>[^/]+/[^/]+)/tree/[^/]+")
FILE = re.compile(r"/(?P<repo>[^/]+/[^/]+)/resolve/[^/]+/(?P<file>.+)")


def sha1(path: Path) -> str:
    return hashlib.sha1(path.read_bytes()).hexdigest()


@contextlib.contextmanager
def hub(root: Path) -> Iterator[tuple[str, list[str]]]:
    """Its address, and the names of the files that were fetched from it."""
    fetched: list[str] = []

    class Hub(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            asked = urlsplit(self.path).path
            if (found := TREE.fullmatch(asked)) and (repo := root / found["repo"]).is_dir():
                self.say(json.dumps([{"type": "file", "path": p.name, "size": p.stat().st_size, "oid": sha1(p)}
                                     for p in sorted(repo.iterdir())]).encode())
            elif (found := ABOUT.fullmatch(asked)) and (repo := root / found["repo"]).is_dir():
                files = [{"rfilename": p.name, "size": p.stat().st_size, "blobId": sha1(p)}
                         for p in sorted(repo.iterdir())]
                self.say(json.dumps({"id": found["repo"], "sha": COMMIT, "siblings": files}).encode())
            elif (found := FILE.fullmatch(asked)) and (path := root / found["repo"] / found["file"]).is_file():
                if self.command == "GET":
                    fetched.append(path.name)
                self.say(path.read_bytes(), **{"ETag": f'"{sha1(path)}"', "X-Repo-Commit": COMMIT})
            else:
                self.say(b'{"error": "Repository not found"}', 404, **{"X-Error-Code": "RepoNotFound"})

        def say(self, body: bytes, status: int = 200, **headers: str) -> None:
            self.send_response(status)
            headers |= {"Content-Length": str(len(body)), "Content-Type": "application/json"}
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *_) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", fetched
    finally:
        server.shutdown()
        server.server_close()
