"""Adapters that can be asked for: those of the start stay on the model, of those added later only the last few used.

An added adapter that had to go is still known, and comes back when it is asked for. For the thread that owns the model.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from pathlib import Path

from compare.engine.interface import LoadedAdapter
from compare.models.loaded_model import LoadedModel
from lens.adapter.directory import AdapterFiles, check_base, check_ending, read_adapter, renamed, same
from lens.adapter.find import trained_steps
from lens.errors import BadAdapter, Note, Unavailable

MOST_ADDED = 8  # on the model at once; a page training writes a dozen checkpoints


class AdapterShelf:
    """`known`: every adapter by name. `added`: those added later that are on the model, longest unused first."""

    def __init__(self, loaded: LoadedModel, shown: Sequence[str], notes: Sequence[Note] = (),
                 most_added: int = MOST_ADDED, chat_template: str = ""):
        self.loaded, self.most_added, self.notes, self.chat_template = loaded, most_added, list(notes), chat_template
        self.known = {name: LoadedAdapter(files, loaded.receipts[name], name in shown, trained_steps(files.path))
                      for name, files in loaded.adapters.items()}
        self.added: list[str] = []

    def read(self, path: Path) -> tuple[AdapterFiles, list[Note]]:
        """A directory that may be added, and what is to be told of it. Raises BadAdapter. For any thread."""
        files = read_adapter(path, self.loaded.base)
        if self.same(files):
            return files, []
        return files, [*files.notes, *check_base(self.loaded.base, [files], self.chat_template),
                       *check_ending(files, self.loaded.tokenizer, self.loaded.ends)]

    def same(self, files: AdapterFiles) -> AdapterFiles | None:
        """The very same adapter where it is known."""
        known = same(files, [one.files for one in self.known.values()])
        alike = known and (known.sha256, known.settings) == (files.sha256, files.settings)
        return known if alike else None

    def add(self, files: AdapterFiles, notes: Sequence[Note], in_use: Set[str]) -> str:
        """Attach, prove, and make it known; returns its name. Raises BadAdapter."""
        if known := self.same(files):
            self.bring([known.name], in_use)
            return known.name
        new = renamed(files, set(self.known))
        self.attach(new, in_use)
        found = LoadedAdapter(new, self.loaded.receipts[new.name], False, trained_steps(new.path))
        self.known = {**self.known, new.name: found}
        self.notes += [*notes, *new.notes[len(files.notes):]]
        return new.name

    def attach(self, files: AdapterFiles, in_use: Set[str]) -> None:
        idle = [name for name in self.added if name not in in_use]
        for name in idle[:max(0, len(self.added) + 1 - self.most_added)]:
            self.detach(name)
        self.loaded.put_on(files)
        self.added.append(files.name)

    def detach(self, name: str) -> None:
        self.loaded.take_off(name)
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
                raise BadAdapter("adapter-not-on-model", adapter=repr(name[:80]))
            known = self.known[name].files
            files = read_adapter(known.path, self.loaded.base)
            if files.sha256 != known.sha256:
                raise BadAdapter("adapter-changed", name=name, path=files.path)
            self.attach(known, in_use | wanted)

    def remove(self, name: str, in_use: Set[str]) -> None:
        """Forget an adapter. Raises Unavailable while a question uses it."""
        if name in in_use:
            raise Unavailable("adapter-in-use", name=name)
        if name in self.loaded.adapters:
            self.detach(name)
        self.known = {other: found for other, found in self.known.items() if other != name}
