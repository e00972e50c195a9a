"""Where this program keeps what a user made, and what it can make again, as each system has it."""

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


def cache_home(environ: Mapping[str, str]) -> Path:
    """`lora-lens` below XDG_CACHE_HOME, Caches or LOCALAPPDATA; it need not be there yet."""
    home = Path(environ.get("HOME") or Path.home())
    if sys.platform == "win32":
        return data_home(environ) / "cache"
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "lora-lens"
    return Path(environ.get("XDG_CACHE_HOME") or home / ".cache") / "lora-lens"
