"""What a report is asked to do, and of what."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from lens.base_files import find_base
from lens.base_identity import base_identity
from lens.errors import BadAdapter, BadQuestion

if TYPE_CHECKING:  # it brings torch, which `--help` need not wait for
    from compare.engine.interface import Sampling

LARGEST_STRENGTH = 10.0


@dataclass(frozen=True)
class ReportSettings:
    """One run of `python -m compare.evaluate`. `seed` of the bootstrap is the sampling's."""

    data: Path
    output: Path
    plain: Path
    base: str
    adapters: tuple[str, ...]  # the first is the one that is compared with the base in full
    sampling: Sampling
    strengths: tuple[float, ...] = ()
    checkpoints: tuple[Path, ...] = ()
    device: str = "auto"
    dtype: str = "auto"
    limit: int | None = None

    def __post_init__(self) -> None:
        for strength in self.strengths:
            if not -LARGEST_STRENGTH <= strength <= LARGEST_STRENGTH:
                raise BadQuestion(f"--strength is {strength:g}; allowed: {-LARGEST_STRENGTH:g} to {LARGEST_STRENGTH:g}")

    @property
    def other_strengths(self) -> list[float]:
        """Of the first adapter, beside 1, which is always there, and 0, which is the base: in order, each once."""
        return sorted(set(self.strengths) - {0.0, 1.0})


@cache
def base_sha256(base: str) -> str:
    """The base's identity by content. Raises BadBase."""
    return base_identity(find_base(base))


def checkpoint_directories(given: tuple[Path, ...]) -> list[Path]:
    """Adapter directories, those that hold `checkpoint-N` replaced by these. Raises BadAdapter."""
    found: list[Path] = []
    for path in given:
        below = [p for p in path.glob("checkpoint-*") if p.is_dir()]
        if not below and not path.is_dir():
            raise BadAdapter(f"--checkpoints {path}: no such directory; give one that `python -m train` wrote")
        found += sorted(below, key=lambda p: step_of(p) or 0) or [path]
    return found


def step_of(adapter: Path) -> int | None:
    """Training steps behind an adapter directory: its name's, or the last that its training.json logged."""
    if named := re.fullmatch(r"(?:checkpoint|step)-(\d+)", adapter.resolve().name):
        return int(named[1])
    try:
        training = json.loads((adapter / "training.json").read_text(encoding="utf-8"))
        return int(training["losses"][-1]["step"])
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return None
