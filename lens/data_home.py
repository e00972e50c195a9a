"""Where this program keeps what a user made: the user's own data directory, as each system has it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path


def data_home(environ: Mapping[str, str]) -> Path:
    """`lora-lens` below XDG_DATA_HOME, Application Support or LOCALAPPDATA; it need not be there yet."""
    home = Path(environ.get("HOME") or Path.home())
    if sys.platform == "win32":
        data = Path(environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    elif sys.platform == "darwin":
        data = home / "Library" / "Application Support"
    else:
        data = Path(environ.get("XDG_DATA_HOME") or home / ".local" / "share")
    return data / "lora-lens"
