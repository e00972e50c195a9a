"""What a report is asked to do, and of what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from compare.engine.interface import RANGES, Sampling
from lens.adapter.find import trained_steps
from lens.base.files import find_base
from lens.base.identity import base_identity
from lens.errors import BadAdapter
from lens.rows.row_options import RowOptions


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
    reading: RowOptions = field(default_factory=RowOptions)
    slice_by: str | None = None  # a field of the rows; None: `tag`, where they have it
    rules: Mapping[str, str] = field(default_factory=dict)  # name: regular expression
    chat_template: str = ""  # a file that is used in place of the base's own

    def __post_init__(self) -> None:
        for strength in self.strengths:
            RANGES["strength"].check("strength", strength)

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
            raise BadAdapter("checkpoints-missing", path=path)
        found += sorted(below, key=lambda p: trained_steps(p) or 0) or [path]
    return found
