"""`python app.py` as a child process, with what it holds of memory, threads and files."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.shared.served import free_port

ROOT = Path(__file__).resolve().parent.parent.parent
PAIR = ("--device", "cpu", "--adapter", "assets/adapters/lens")  # the shipped pair, without its timeline
PATIENCE = 300  # seconds for the page to be up


@dataclass(frozen=True)
class Held:
    """What a process holds: resident bytes, threads, open files (sockets among them)."""

    rss: int
    threads: int
    files: int


class Page:
    """A context manager: the page on a free port of loopback, its output kept in a file."""

    def __init__(self, *options: str):
        self.port, self.log = free_port(), Path(tempfile.mkstemp(suffix=".log")[1])
        self.options = options
        self.url = f"http://127.0.0.1:{self.port}/"

    def __enter__(self) -> Page:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # a run that is ended takes the page with it
        env = {**os.environ, "GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1"}
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "app.py", "--port", str(self.port), *PAIR, *self.options],
                cwd=ROOT,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        ends = time.monotonic() + PATIENCE
        while time.monotonic() < ends:
            try:
                urllib.request.urlopen(self.url, timeout=5).close()
                return self
            except OSError:
                if self.process.poll() is not None:
                    raise RuntimeError(f"app.py ended: {self.said()[-500:]}") from None
                time.sleep(0.3)
        self.__exit__()
        raise RuntimeError(f"app.py was not up after {PATIENCE} s")

    def __exit__(self, *_) -> None:
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.unlink(missing_ok=True)

    def alive(self) -> bool:
        return self.process.poll() is None

    def said(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def held(self) -> Held:
        process = psutil.Process(self.process.pid)
        with process.oneshot():
            return Held(process.memory_info().rss, process.num_threads(), process.num_fds())

    def listening(self) -> set[str]:
        """Addresses on which it, or a child of it, takes connections."""
        process = psutil.Process(self.process.pid)
        return {
            c.laddr.ip
            for p in (process, *process.children(recursive=True))
            for c in p.net_connections("inet")
            if c.status == psutil.CONN_LISTEN
        }
