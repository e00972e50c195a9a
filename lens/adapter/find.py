"""Where an adapter lies: a name or a place that people give → the directory that holds its two files.

PEFT, train, MLX and the hub lay adapters out in different ways. What is plainly meant is taken, and said in a note;
of anything else is said what it is, with the command that works.
"""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

from lens.adapter.config import shown
from lens.adapter.weights import WEIGHTS
from lens.errors import BadAdapter, Note, first_line

CONFIG, PICKLE, MLX = "adapter_config.json", "adapter_model.bin", "adapters.safetensors"
PROMPTS = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
HUB_NAME, STEP = re.compile(r"[\w.-]+/[\w.-]+"), re.compile(r"checkpoint-(\d+)")


def find_adapter(name: str | Path) -> Path:
    """The place of that name, or a hub repository's files fetched to the hub's cache. Raises BadAdapter."""
    path = Path(name)
    try:
        there = path.exists()
    except (OSError, ValueError) as err:  # a name no file system takes
        raise BadAdapter("adapter-impossible-name", path=repr(str(name)[:80])) from err
    if there or not HUB_NAME.fullmatch(str(name)):
        return path
    return fetch_adapter(str(name))


def fetch_adapter(repo: str) -> Path:
    """An adapter's files of a hub repository, those that it has; a pickle or MLX's only where ours is missing. Raises
    BadAdapter."""
    from huggingface_hub import snapshot_download

    files = [CONFIG, WEIGHTS, "training.json", "config.json", *PROMPTS]
    try:
        found = Path(snapshot_download(repo, allow_patterns=files))
        if not (found / WEIGHTS).exists():
            found = Path(snapshot_download(repo, allow_patterns=[*files, PICKLE, MLX]))
    except Exception as err:  # noqa: BLE001 (the hub's errors have no common ancestor)
        raise BadAdapter("adapter-not-on-hub", path=repo, reason=first_line(err)) from err
    return found


def is_adapter(path: Path) -> bool:
    return (path / CONFIG).is_file() and (path / WEIGHTS).is_file()


def step_of(checkpoint: Path) -> int:
    """N of `checkpoint-N`; -1 for another name."""
    found = STEP.fullmatch(checkpoint.name)
    return int(found[1]) if found else -1


def trained_steps(adapter: Path) -> int | None:
    """Training steps behind an adapter directory: its name's, or the last that its training.json logged."""
    if named := re.fullmatch(r"(?:checkpoint|step)-(\d+)", adapter.resolve().name):
        return int(named[1])
    try:
        training = json.loads((adapter / "training.json").read_text(encoding="utf-8"))
        return int(training["losses"][-1]["step"])
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return None


def candidates(path: Path) -> list[tuple[Path, list[Note]]]:
    """The directories that may be meant by a place, the likeliest first, each with what is to be said if it is taken.

    More than one only where the place is a run's: its checkpoints, the newest first. Raises BadAdapter.
    """
    if not path.is_dir():
        if path.is_file():
            raise BadAdapter("adapter-is-a-file", path=path, parent=shlex.quote(str(path.parent)))
        raise BadAdapter("adapter-not-there", path=path)
    if is_adapter(path):
        return [(path, [])]
    below = [p for p in sorted(path.iterdir()) if not p.name.startswith(".") and not p.is_symlink() and is_adapter(p)]
    named = [p for p in below if step_of(p) < 0]
    if len(named) > 1:
        raise BadAdapter("adapter-several-below", path=path, names=", ".join(shown(p.name) for p in named[:8]),
                         one=shlex.quote(str(named[0])))
    if named:
        return [(named[0], [Note("adapter-taken-below", path=path, name=named[0].name)])]
    if below:
        newest_first = sorted(below, key=step_of, reverse=True)
        return [(p, [Note("adapter-taken-checkpoint", path=path, name=p.name)]) for p in newest_first]
    raise what_it_is(path)


def what_it_is(path: Path) -> BadAdapter:
    """What a directory without an adapter's two files holds, and what to do with it."""
    command = f"python -m tools.convert_adapter {shlex.quote(str(path))} --output NEW"
    if (path / CONFIG).is_file() and (path / PICKLE).is_file():
        return BadAdapter("adapter-is-pickled", path=path, command=command)
    if (path / MLX).is_file():
        return BadAdapter("adapter-is-mlx", path=path, command=command)
    if (path / "config.json").is_file() and not (path / CONFIG).is_file():
        return BadAdapter("adapter-is-a-base", path=path, base=shlex.quote(str(path)))
    missing = next(name for name in (CONFIG, WEIGHTS) if not (path / name).is_file())
    return BadAdapter("adapter-file-missing", path=path, file=missing)
