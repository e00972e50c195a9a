"""A module of ours as a process, and its SIGKILL at a random moment."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.trust.server import ROOT

PATIENCE = 300  # seconds for a process to begin its work
LOOK = 0.01  # seconds between two looks at whether it has begun


@dataclass
class Killed:
    """One process that was killed, or ended before that: what it had said until then."""

    returncode: int
    said: str


def begin(out: Path, *command: object) -> subprocess.Popen:
    """A module of ours as a process; stdout and stderr go to `out`."""
    with out.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, "-m", *map(str, command)],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"},
        )


def kill_after(folder: Path, delay: float, ready: Callable[[str], bool], *command: object) -> Killed:
    """Run, wait until `ready(what it said)`, wait `delay` seconds more, kill."""
    out = folder / "said.txt"
    process, ends = begin(out, *command), time.monotonic() + PATIENCE
    try:
        while process.poll() is None and not ready(out.read_text(encoding="utf-8", errors="replace")):
            if time.monotonic() > ends:
                raise RuntimeError(f"{command[0]} did not begin within {PATIENCE} s")
            time.sleep(LOOK)
        try:
            process.wait(delay)
        except subprocess.TimeoutExpired:
            pass
    finally:
        process.kill()
        process.wait()
    return Killed(process.returncode, out.read_text(encoding="utf-8", errors="replace"))


def run_whole(folder: Path, *command: object) -> Killed:
    process = begin(folder / "said.txt", *command)
    process.wait(PATIENCE)
    return Killed(process.returncode, (folder / "said.txt").read_text(encoding="utf-8", errors="replace"))
