"""Adapters that visitors load while the page runs: from a folder, an upload or the hub, and take off again.

Each belongs to who loaded it, known by a secret that its browser keeps: nobody else takes it off. The engine judges
and proves it (`Engine.load_adapter`); an upload's files lie in a directory of ours until it is taken off.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from compare.engine.interface import Engine, LoadedAdapter
from compare.server.loading.adapter_upload import lay_out, name_of
from compare.server.loading.allowed_roots import folder_below, offered
from compare.server.permissions import Permission
from compare.server.uploads import uploaded
from lens.adapter.directory import unique
from lens.adapter.find import HUB_NAME, fetch_adapter
from lens.errors import BadSetting, LensError, Note, Unavailable, first_line

MOST = 16  # adapters loaded from the page at once
Said = TypeVar("Said", LensError, Note)


@dataclass(frozen=True)
class Place:
    """Where an adapter was found. `called`: what its user knows the place by; `ours`: a directory to be removed."""

    path: Path
    called: str
    ours: Path | None = None


@dataclass(frozen=True)
class Held:
    """A loaded adapter, whose it is, and what its user is to be told."""

    adapter: LoadedAdapter
    owner: str
    place: Place
    notes: tuple[Note, ...] = ()


class Loading:
    """Adapters loaded into one engine from the page. `largest`: bytes of an upload. Methods raise LensError; whether
    the one who asks may is `permission`'s to say."""

    def __init__(self, engine: Engine, permission: Permission, roots: Sequence[Path] = (),
                 largest: int = 8_000_000):
        self.engine, self.permission, self.roots, self.largest = engine, permission, tuple(roots), largest
        self.held: dict[str, Held] = {}
        self.lock = threading.Lock()
        self.home: tempfile.TemporaryDirectory | None = None

    @property
    def closed(self) -> Unavailable | None:
        """Why nothing can be loaded here; None where it can."""
        able = "load-adapters" in self.engine.abilities
        return self.permission.closed or (None if able else Unavailable("engine-cannot-load-adapters"))

    def offered(self) -> list[str]:
        return offered(self.roots)

    def folder(self, given: object) -> Place:
        return Place(folder_below(given, self.roots), str(given))

    def hub(self, given: object) -> Place:
        """Fetched from the hub, where it can be reached."""
        name = given.strip() if isinstance(given, str) else ""
        if not HUB_NAME.fullmatch(name):
            raise BadSetting("hub-name", name=repr(given)[:80])
        return Place(fetch_adapter(name), name)

    def upload(self, files: Sequence[str] | None, folder: Path) -> Place:
        """Out of files that lie in Gradio's upload `folder`, which are removed."""
        found = [uploaded(file, folder) for file in files or ()]
        paths = [path for path in found if path]
        if not found or len(paths) < len(found):
            raise BadSetting("upload-files", names="—")
        try:
            with self.lock:
                self.check_room()
                if self.home is None:
                    self.home = tempfile.TemporaryDirectory(prefix="lora-lens-", ignore_cleanup_errors=True)
                ours = Path(tempfile.mkdtemp(dir=self.home.name))
            name = unique([*self.engine.adapters, name_of(paths)])[-1]
            place = Place(ours / name, name, ours)
            place.path.mkdir()
            self.fill(paths, place)
            return place
        finally:
            for path in paths:
                path.unlink(missing_ok=True)

    def fill(self, paths: Sequence[Path], place: Place) -> None:
        """Lay an upload out, whole or not at all."""
        try:
            lay_out(paths, place.path, self.largest)
        except BaseException as err:
            remove(place)
            if isinstance(err, OSError):
                raise Unavailable("loading-not-written", reason=first_line(err)) from err
            raise

    def check_room(self) -> None:
        if len(self.held) >= MOST:
            raise Unavailable("loading-too-many", count=len(self.held), most=MOST)

    def load(self, place: Place, owner: str) -> Held:
        """Judge, put on the model, prove. One that was loaded already stays whose it is."""
        try:
            with self.lock:
                self.check_room()
                known, before = set(self.engine.adapters), len(self.engine.notes)
                name = self.engine.load_adapter(place.path)
                notes = tuple(called(note, place) for note in self.engine.notes[before:])
                if name in known:
                    return Held(self.engine.adapters[name], "", place, (Note("loaded-already", name=name),))
                self.held[name] = Held(self.engine.adapters[name], owner, place, notes)
                return self.held[name]
        except LensError as err:
            remove(place)
            raise called(err, place) from err
        except (OSError, RuntimeError) as err:
            remove(place)
            raise Unavailable("loading-failed", reason=first_line(err)) from err

    def of(self, owner: str) -> list[Held]:
        """Those that this visitor loaded, the newest first."""
        return [held for held in reversed(self.held.values()) if owner and held.owner == owner]

    def unload(self, name: object, owner: str) -> str:
        """Take an adapter off again, and away with its files. Raises Unavailable while a question uses it."""
        with self.lock:
            held = self.held.get(name) if isinstance(name, str) else None
            if held is None or not owner or held.owner != owner:
                raise BadSetting("adapter-not-yours", name=repr(name)[:80])
            self.engine.unload_adapter(held.adapter.name)
            del self.held[held.adapter.name]
        remove(held.place)
        return held.adapter.name


def remove(place: Place) -> None:
    if place.ours:
        shutil.rmtree(place.ours, ignore_errors=True)


def called(said: Said, place: Place) -> Said:
    """The same sentence with what its user calls the place, not where it lies on this machine."""
    def shown(value: object) -> object:
        if isinstance(value, LensError):
            return called(value, place)
        if isinstance(value, Note):
            return called(value, place)
        text = str(value)
        return text.replace(str(place.path), place.called) if str(place.path) in text else value

    return type(said)(said.code, **{name: shown(value) for name, value in said.values.items()})
