"""What code does while it is watched: files opened to be written, pickles, processes, shells. By Python's audit hook.

Rust and C++ code opens files unseen by the hook; the folders are therefore listed before and after as well.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
EVENTS = {
    "pickle.find_class",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "ctypes.dlopen",
    "webbrowser.open",
    "socket.connect",
}


class Watch:
    """A context manager; `seen` holds a line an event.

    Not seen: writing below `allowed`, and the child process of lens.adapter.prompts.
    """

    current: Watch | None = None
    hooked = False

    def __init__(self, *allowed: Path):
        self.allowed, self.seen = [str(p.resolve()) for p in allowed], []

    def __enter__(self) -> Watch:
        Watch.current = self
        if not Watch.hooked:
            sys.addaudithook(Watch.hear)  # for the rest of the process: there is no way to take it out
            Watch.hooked = True
        return self

    def __exit__(self, *_) -> None:
        Watch.current = None

    @staticmethod
    def hear(event: str, arguments: tuple) -> None:
        watch = Watch.current
        if watch is None:
            return
        if event in EVENTS:
            watch.seen.append(f"{event} {str(arguments)[:80]}")
        elif event == "subprocess.Popen" and "lens.adapter.prompts" not in list(arguments[1]):
            watch.seen.append(f"{event} {str(arguments[1])[:80]}")
        elif event == "open" and arguments[2] & WRITING and not watch.may_write(arguments[0]):
            watch.seen.append(f"wrote {arguments[0]}")

    def may_write(self, path: object) -> bool:
        if isinstance(path, int) or str(path) in ("/dev/null", "/proc/self/clear_refs") or "__pycache__" in str(path):
            return True
        where = os.path.abspath(os.fsdecode(path)) if isinstance(path, (str, bytes)) else str(path)
        return any(where.startswith(home) for home in self.allowed)


def listing(folders: Sequence[Path]) -> dict[str, tuple[int, int]]:
    """Path → (size, time of change) of all files below some folders."""
    found = {}
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                about = path.lstat()
                found[str(path)] = about.st_size, about.st_mtime_ns
    return found
