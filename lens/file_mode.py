"""The mode of files that libraries wrote: safetensors leaves its own at 0600, which a colleague cannot read."""

from __future__ import annotations

import os
from pathlib import Path


def follow_umask(folder: Path) -> None:
    """Give every file in a folder that this process wrote the mode of a file that it opens there, by its umask.

    Asked of a new file, as reading a process's umask means setting it for a moment. Raises OSError.
    """
    probe = folder / f".mode-{os.getpid()}"
    os.close(os.open(probe, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    mode = probe.stat().st_mode & 0o777
    probe.unlink()
    for file in folder.iterdir():
        if file.is_file() and not file.is_symlink():
            file.chmod(mode)
