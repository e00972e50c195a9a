"""The Dockerfile, without an engine: its health check as it stands there, and what .dockerignore lets in.

`make lint` has its rules by hadolint; that it builds and runs is told in deploy/README.md.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from bench.shared.served import free_port
from deploy.space import files_of_a_space

ROOT = Path(__file__).resolve().parent.parent
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
IGNORED = [line for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
           if line and line[0] not in "#!"]


def well(port: int) -> bool:
    """What the health check says of a page at this port, with a proxy set that nobody answers at."""
    found = re.search(r"^HEALTHCHECK .*\\\n\s+CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)
    assert found
    _, *command = json.loads(found[1])
    env = {**os.environ, "GRADIO_SERVER_PORT": str(port), "http_proxy": f"http://127.0.0.1:{free_port()}"}
    return subprocess.run([sys.executable, *command], env=env, capture_output=True, timeout=30).returncode == 0


@pytest.fixture
def page():
    """A server whose /health answers with `page.status`."""
    class Page(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(server.status if self.path == "/health" else 404)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("status, healthy", [(200, True), (503, False)])
def test_the_health_check_follows_the_page_and_asks_no_proxy(page, status, healthy):
    page.status = status
    assert well(page.server_port) is healthy


def test_a_page_that_does_not_answer_is_not_healthy():
    assert not well(free_port())


def test_everything_that_runs_is_let_in_and_no_test():
    def shut_out(name: str) -> bool:
        parts = [name, *map(str, list(Path(name).parents)[:-1])]
        return any(fnmatch(part, pattern.removeprefix("**/")) for pattern in IGNORED for part in parts)

    runs = [name for name in files_of_a_space(ROOT) if name.split("/")[0] in ("app.py", "compare", "train")
            or name.startswith(("requirements", "assets/base", "assets/adapters", "assets/timeline", "assets/hit_qa"))]
    assert len(runs) > 100 and not [name for name in runs if shut_out(name)]
    assert shut_out("tests/test_container.py") and shut_out("runs/mine/log.jsonl") and shut_out(".git/config")
    assert not shut_out("requirements.lock")
