"""Folders of this machine that an adapter may be loaded from: those below a root that the page was started with."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from lens.adapter.find import is_adapter
from lens.errors import BadSetting

DEPTH, MOST_SEEN, MOST_OFFERED = 3, 2000, 200  # levels below a root, folders looked at, and adapters offered


def folder_below(given: object, roots: Sequence[Path]) -> Path:
    """The folder that is meant, links followed, below a root. Raises BadSetting, the same for one that is elsewhere
    and for one that is not there."""
    if isinstance(given, str) and given.strip():
        for path in (Path(given), *(root / given for root in roots)):
            try:
                whole = path.resolve()
                if any(whole.is_relative_to(root.resolve()) for root in roots) and whole.is_dir():
                    return whole
            except (OSError, ValueError, RuntimeError):  # a name that no file system takes, links in a circle
                continue
    raise BadSetting("folder-not-allowed", path=repr(given)[:80], roots=", ".join(map(str, roots))[:400])


def offered(roots: Sequence[Path]) -> list[str]:
    """Adapter directories below the roots, as they can be given to `folder_below`, the newest first."""
    found = [(path.stat().st_mtime, str(path)) for root in roots for path in folders(root) if is_adapter(path)]
    return [path for _, path in sorted(found, reverse=True)[:MOST_OFFERED]]


def folders(root: Path) -> Iterator[Path]:
    """The root and what is below it, not through links, and not hidden ones."""
    todo, seen = [(root, 0)], 0
    while todo and seen < MOST_SEEN:
        path, depth = todo.pop(0)
        seen += 1
        try:
            if not path.is_dir():
                continue
            yield path
            if depth < DEPTH:
                todo += [(Path(e.path), depth + 1) for e in sorted(os.scandir(path), key=lambda e: e.name)
                         if e.is_dir(follow_symlinks=False) and not e.name.startswith(".")]
        except OSError:  # one that may not be read
            continue
