"""Adapters that can be asked for: those of the start stay on the model, of those added later only the last few used.

An added adapter that had to go is still known, and comes back when it is asked for. For the thread that owns the model.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from dataclasses import replace
from pathlib import Path

from compare.engine.adapters import put_on, take_off
from compare.engine.interface import LoadedAdapter, step_of
from compare.engine.loaded_model import LoadedModel
from lens.adapter_dir import AdapterFiles, check_base, find_adapter, read_adapter
from lens.errors import BadAdapter, Unavailable

MOST_ADDED = 8  # on the model at once; a page training writes a dozen checkpoints


class AdapterShelf:
    """`known`: every adapter by name. `added`: those added later that are on the model, longest unused first."""

    def __init__(self, loaded: LoadedModel, shown: Sequence[str], most_added: int = MOST_ADDED):
        self.loaded, self.most_added = loaded, most_added
        self.known = {name: LoadedAdapter(files, loaded.receipts[name], name in shown, step_of(files.path),
                                          "start" if name in shown else "timeline")
                      for name, files in loaded.adapters.items()}
        self.added: list[str] = []

    def read(self, path: Path) -> AdapterFiles:
        """A directory that may be added, or is known already. Raises BadAdapter. For any thread."""
        files = read_adapter(find_adapter(str(path)))
        if known := self.known.get(files.name):
            if known.sha256 != files.sha256:
                raise BadAdapter("adapter-name-taken", path=path, other=known.path, name=files.name)
        else:
            check_base(self.loaded.base, [files])
        return files

    def add(self, files: AdapterFiles, in_use: Set[str]) -> None:
        """Attach, prove, and make it known. Raises BadAdapter."""
        self.attach(files, in_use)
        receipt = self.loaded.receipts[files.name]
        self.known = {**self.known, files.name: LoadedAdapter(files, receipt, False, step_of(files.path), "added")}

    def attach(self, files: AdapterFiles, in_use: Set[str]) -> None:
        idle = [name for name in self.added if name not in in_use]
        for name in idle[:max(0, len(self.added) + 1 - self.most_added)]:
            self.detach(name)
        put_on(self.loaded, files)
        self.added.append(files.name)

    def detach(self, name: str) -> None:
        take_off(self.loaded, name)
        del self.loaded.adapters[name], self.loaded.receipts[name]
        if name in self.added:
            self.added.remove(name)

    def bring(self, names: Iterable[str], in_use: Set[str] = frozenset()) -> None:
        """See to it that these are on the model. Raises BadAdapter for one that is gone from where it was read."""
        wanted = set(names)
        for name in wanted & set(self.added):
            self.added.remove(name)
            self.added.append(name)
        for name in wanted - set(self.loaded.adapters):
            if name not in self.known:
                raise BadAdapter("adapter-not-on-model", name=name, attached=", ".join(self.known) or "none")
            files = read_adapter(self.known[name].path)
            if files.sha256 != self.known[name].sha256:
                raise BadAdapter("adapter-changed", name=name, path=files.path)
            self.attach(replace(files, name=name), in_use | wanted)

    def remove(self, name: str, in_use: Set[str]) -> None:
        """Forget an adapter. Raises Unavailable while a question uses it."""
        if name in in_use:
            raise Unavailable("adapter-in-use", name=name)
        if name in self.loaded.adapters:
            self.detach(name)
        self.known = {other: found for other, found in self.known.items() if other != name}
