"""A run's checkpoints: which is whole, and how a run goes on from it.

A `checkpoint-N` is an adapter directory plus the state to go on from. Nothing here unpickles code: weights come from
safetensors that were judged first, state by `torch.load(weights_only=True)`.
"""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path

from lens.adapter.directory import judge
from lens.adapter.find import step_of
from lens.adapter.fit import Fit
from lens.adapter.weights import WEIGHTS
from lens.adapter.write import PARTS
from lens.errors import BadAdapter, LensError, Note, first_line

ANY = Fit(any_decoder=True)  # the run's own model is asked as the weights are put on it
STATE = ("trainer_state.json", "optimizer.pt", "scheduler.pt")


def load_adapter_weights(model, directory: Path) -> None:
    """A checkpoint's A and B into the PeftModel. Raises BadAdapter where they do not fit."""
    from lens.adapter.for_peft import put_weights

    put_weights(model, judge(directory, directory.name, fit=ANY), "default")


def read_state(path: Path) -> None:
    """Read a file of a checkpoint through, by its kind; raises whatever a damaged or crafted one raises."""
    import torch
    from transformers.trainer_pt_utils import safe_globals

    if path.suffix == ".json":
        json.loads(path.read_text(encoding="utf-8"))
    elif path.name == WEIGHTS:
        for note in judge(path.parent, path.parent.name, fit=ANY).notes:
            if note.code == "adapter-weights-changed":
                raise BadAdapter(note.code, **note.values)
    elif path.suffix in (".pt", ".pth"):
        if damaged := zipfile.ZipFile(path).testzip():
            raise ValueError(f"{damaged} in it is damaged")
        with safe_globals():
            torch.load(path, map_location="cpu", weights_only=True)


def fault(checkpoint: Path) -> LensError | None:
    """Why a checkpoint cannot be gone on from, or None when it is whole."""
    for name in (*PARTS, *STATE):
        if not (checkpoint / name).is_file():
            return BadAdapter("checkpoint-file-missing", file=name)
    if not any(checkpoint.glob("rng_state*.pth")):
        return BadAdapter("checkpoint-file-missing", file="rng_state.pth")
    run = checkpoint.parent.resolve()
    for path in sorted(checkpoint.iterdir()):
        if not path.resolve().is_relative_to(run):
            return BadAdapter("checkpoint-leads-out", file=path.name, run=checkpoint.parent)
        try:
            read_state(path)
        except BadAdapter as err:
            return err
        except Exception as err:  # noqa: BLE001 - whatever it raises, it is not gone on from
            return BadAdapter("checkpoint-unreadable", file=path.name, reason=first_line(err))
    return None


def checkpoints(output: Path) -> list[Path]:
    """The `checkpoint-N` directories of a run, by step."""
    return sorted((p for p in output.glob("checkpoint-*") if step_of(p) >= 0), key=step_of)


def last_whole(output: Path) -> Path | None:
    """The newest checkpoint that is whole; newer ones that are not are named on stderr and passed over."""
    for checkpoint in reversed(checkpoints(output)):
        problem = fault(checkpoint)
        if problem is None:
            return checkpoint
        print(Note("adapter-passed-over", path=checkpoint, reason=problem), file=sys.stderr)
    return None
