"""Hostile adapter directories and data files: each refused in bounded time and memory, with one sentence.

Promised as well: the base's bytes stay as they were, nothing is unpickled, imported or run that a file names, and
nothing is written but below the folder given for it.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.shared.file_watch import Watch, listing
from bench.shared.peak import forget_peak, peak
from bench.trust.found import Found, Progress
from lens.embedded import ASSETS, EMBEDDED_BASE
from lens.errors import BadAdapter, LensError
from tests.hostile import DATA
from tests.hostile_adapters import ADAPTERS, Hostile, place

SECONDS, MEMORY = 5.0, 400 << 20  # of this process's processor time, and bytes, that one file may take
LONGEST_SENTENCE = 600  # characters, paths included


@dataclass(frozen=True)
class Told:
    """How one file was met: the sentence (None: it was accepted), processor and wall seconds, bytes beyond before."""

    said: str | None
    seconds: float
    wall: float
    bytes: int


def meet(read: Callable[[], object], error: type[Exception]) -> Told:
    """Run `read` and measure it; an exception other than `error` is no refusal and goes through as text."""
    before, cpu, wall = forget_peak(), time.process_time(), time.monotonic()
    said = None
    try:
        read()
    except error as err:
        said = str(err)
    except Exception as err:  # noqa: BLE001 (a fault, to be told by name)
        said = f"FAULT {type(err).__name__}: {str(err)[:200]}"
    return Told(said, time.process_time() - cpu, time.monotonic() - wall, max(0, peak() - before))


def problem(told: Told, expected: str) -> str | None:
    """What is wrong with a refusal, in words."""
    if told.said is None:
        return "was accepted"
    if told.said.startswith("FAULT"):
        return told.said
    if expected not in told.said:
        return f"was told {told.said[:200]!r}, expected {expected!r} in it"
    if "\n" in told.said.replace("line\nend", "") or len(told.said) > LONGEST_SENTENCE:
        return f"was told in {len(told.said)} characters, with line ends: {told.said[:80]!r}"
    if told.seconds > SECONDS or told.bytes > MEMORY:
        return f"took {told.seconds:.1f} s and {told.bytes / 1e6:.0f} MB"
    return None


class Base:
    """A loaded base, and the hash of its weights in memory."""

    def __init__(self, path: str = EMBEDDED_BASE):
        from lens.base.loading import load_base

        self.path, self.model = path, load_base(path, "cpu").model
        self.hash = self.hashed()
        self.weights = {name: value.clone() for name, value in self.model.state_dict().items()}

    def is_unchanged(self) -> bool:
        """As the hash would say, in a hundredth of its time."""
        now = self.model.state_dict()
        return now.keys() == self.weights.keys() and all(now[name].equal(value) for name, value in self.weights.items())

    def hashed(self) -> str:
        found = hashlib.sha256()
        for name, value in sorted(self.model.state_dict().items()):
            found.update(name.encode() + value.numpy().tobytes())
        return found.hexdigest()

    def load(self, path: Path) -> None:
        """All that an engine does with an adapter directory before it answers. Raises BadAdapter."""
        from lens.adapter.directory import check_base, read_adapters
        from lens.adapter.for_peft import attach

        adapters = read_adapters([path])
        check_base(self.path, adapters)
        adapted = attach(self.model, adapters)
        try:
            if not any(bool(p.any()) for name, p in adapted.named_parameters() if ".lora_B." in name):
                raise BadAdapter("receipt-all-zero")  # as the engine's receipt does
        finally:
            adapted.unload()


def meet_adapter(base: Base, path: Path, hostile: Hostile) -> Told:
    hostile.spoil(place(path))
    return meet(lambda: base.load(path), BadAdapter)


def check_adapters(names: list[str], base: Base, folder: Path, found: Found) -> None:
    """Give each hostile adapter of these names to a base."""
    told, progress = {}, Progress("files, adapters", len(names), "directories")
    for i, name in enumerate(names):
        told[name] = meet_adapter(base, folder / f"adapter{i}", ADAPTERS[name])
        if fault := problem(told[name], ADAPTERS[name].said):
            found.faults.append(f"adapter with {name} {fault}")
        found.check(base.is_unchanged(), f"adapter with {name} changed the base")
        progress.at(i + 1, name)
    found.figures |= figures("adapter", told)


def figures(kind: str, told: dict[str, Told]) -> dict[str, object]:
    slowest = max(told, key=lambda name: told[name].wall)
    return {
        f"hostile {kind}s": len(told),
        f"{kind}s refused": sum(t.said is not None and not t.said.startswith("FAULT") for t in told.values()),
        f"longest wall time for one {kind}, s": round(told[slowest].wall, 2),
        f"slowest {kind}": slowest,
        f"most memory for one {kind}, MB": round(max(t.bytes for t in told.values()) / 1e6),
    }


def check_data(names: list[str], folder: Path, found: Found) -> None:
    """Give each hostile data file of these names to the reader of rows."""
    from lens.rows.rows import read_rows
    from tests.test_sources import BAD, write

    told, progress = {}, Progress("files, data", len(names), "files")
    for i, name in enumerate(names):
        path = folder / f"data{i}" / name
        path.parent.mkdir()
        make, said = DATA.get(name) or ((lambda p, content=BAD[name][0]: write(p, content)), BAD[name][1])
        make(path)
        told[name] = meet(lambda path=path: read_rows([path]), LensError)
        if fault := problem(told[name], said):
            found.faults.append(f"data file {name!r} {fault}")
        progress.at(i + 1, name.replace("\n", " "))
    found.figures |= figures("data file", told)


def all_data() -> list[str]:
    from tests.test_sources import BAD

    return [*DATA, *BAD]


def run() -> Found:
    found, kept = Found(), [ASSETS / "base", ASSETS / "adapters"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["CANARY"] = str(folder / "owned")
        base, before = Base(), listing(kept)
        with Watch(folder) as watch:
            check_adapters(list(ADAPTERS), base, folder, found)
            check_data(all_data(), folder, found)
        found.faults += watch.seen
        found.check(not (folder / "owned").exists(), "a pickle was run")
        found.check(listing(kept) == before, "a file of assets/ was changed")
        found.figures["sha256 of the base's weights before and after"] = (
            "equal" if base.hashed() == base.hash else "OTHER"
        )
    return found
