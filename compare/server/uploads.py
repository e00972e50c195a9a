"""Which files are a visitor's own upload: those alone that lie where Gradio stored it."""

from __future__ import annotations

from pathlib import Path


def uploaded(path: str, folder: Path) -> Path | None:
    """The file at `path`, links followed, if it lies inside Gradio's upload `folder`; None for any other."""
    try:
        whole = Path(path).resolve()
        return whole if whole.is_relative_to(folder.resolve()) and whole.is_file() else None
    except (OSError, ValueError):  # a name that no file system takes
        return None
