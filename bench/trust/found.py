"""What a part of the trust run found: figures for the table, and faults, each a sentence."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field


@dataclass
class Found:
    """`figures`: name → number or text; `faults`: what broke a promise; the part passes when there are none."""

    figures: dict[str, object] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def check(self, right: bool, fault: str) -> None:
        if not right:
            self.faults.append(fault)


class Progress:
    """How far a part is, on stderr: one line that is written over in a terminal, one every ten seconds elsewhere."""

    def __init__(self, name: str, total: float, unit: str = ""):
        self.name, self.total, self.unit = name, total, unit
        self.began, self.said = time.monotonic(), 0.0

    def at(self, done: float, about: str = "") -> None:
        now, terminal = time.monotonic(), sys.stderr.isatty()
        if done < self.total and now - self.said < (0.2 if terminal else 10):
            return
        self.said = now
        line = f"{self.name}: {done:,.0f} of {self.total:,.0f} {self.unit} ({now - self.began:.0f} s) {about}".rstrip()
        print(
            f"\r{line[:110]:<110}" if terminal else line,
            end="" if terminal and done < self.total else "\n",
            file=sys.stderr,
            flush=True,
        )
