"""Adapters on a model that runs: attached, proved, published; taken off again.

The thread that owns the model does it between two steps of the batch, so that nobody's answer is disturbed.
"""

from __future__ import annotations

from pathlib import Path

from compare.engine.receipt import receipt
from lens.adapter_dir import AdapterFiles, check_base, read_adapter, renamed, same
from lens.adapter_peft import attach


def add(engine, path: Path) -> str:
    """Load an adapter directory into a `compare.engine.engine.Engine`; returns the name it has there.

    It is no column of every question, as the timeline's are not: it is there to be asked for. Adding the same again
    does nothing. Raises BadAdapter for one that is no good, or changes nothing; the engine is then as it was.
    """
    files = read_adapter(path)
    known = same(files, engine.adapters.values())
    if known and (known.sha256, known.settings) == (files.sha256, files.settings):
        return known.name
    files = renamed(files, set(engine.adapters))
    notes = [*files.notes, *check_base(engine.base, [files])]
    engine.owner.call(lambda: put_on(engine, files))
    engine.notes += notes
    return files.name


def put_on(engine, files: AdapterFiles) -> None:
    """Attach, prove, and only then publish. For the thread that owns the model."""
    engine.model = attach(engine.model, [files]).to(engine.device)
    try:
        found = receipt(engine, files, engine.untouched)
        found.check()
    except Exception:
        take_off(engine, files)
        raise
    engine.receipts[files.name] = found
    engine.adapters[files.name] = files


def take_off(engine, files: AdapterFiles) -> None:
    """Undo `put_on`: nothing of this adapter stays on the model."""
    others = [key for key in engine.model.peft_config if key != files.key]
    if not others:
        engine.model = engine.model.unload()
    elif files.key in engine.model.peft_config:
        engine.model.delete_adapter(files.key)
        engine.model.set_adapter(others[0], inference_mode=True)
    engine.stack_of.cache_clear()
