"""The page as people start it, `python app.py` on a free port, until it answers: for benchmarks, pictures and tests."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)  # its path
LONGEST = 240.0  # seconds to start in


@dataclass(frozen=True)
class Served:
    """Where the page is, and the seconds from its start until it served its first."""

    url: str
    seconds: float


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@contextlib.contextmanager
def served(env: Mapping[str, str] | None = None, *options: str, folder: Path = ROOT) -> Iterator[Served]:
    """The embedded pair's page, or that of `options`, while the block runs. `env`: the whole environment; `folder`: in
    which the program is started. Raises RuntimeError."""
    port = free_port()
    url, began = f"http://127.0.0.1:{port}/", time.perf_counter()
    app = subprocess.Popen([sys.executable, str(ROOT / "app.py"), "--port", str(port), *options], cwd=folder, env=env,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not answers(url):
            if app.poll() is not None:
                raise RuntimeError(f"app.py ended with {app.returncode} before the page was up")
            if time.perf_counter() - began > LONGEST:
                raise RuntimeError(f"the page was not up after {LONGEST:.0f} seconds")
            time.sleep(0.02)
        yield Served(url, time.perf_counter() - began)
    finally:
        app.send_signal(signal.SIGINT)
        app.wait(20)


def answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=5).close()
        return True
    except OSError:
        return False
