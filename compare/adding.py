"""One more adapter for an engine that is running: from then on it can be a column, and nobody's answer is disturbed.

The thread that owns the model attaches it and proves it between two steps of the batch. Knows nothing of who
trained it.
"""

from __future__ import annotations

from pathlib import Path

from compare.adapters import AdapterFiles, attach, check_base, load_weights, read_adapter
from compare.errors import BadAdapter
from compare.receipt import receipt


def add(engine, path: Path) -> str:
    """Load an adapter directory into a `compare.engine.Engine`; returns the name it has there.

    It is no column of every question, as the timeline's are not: it is there to be asked for. Adding the same again
    does nothing. Raises BadAdapter for one that is no good, or changes nothing; the engine is then as it was.
    """
    files = read_adapter(path)
    if known := engine.adapters.get(files.name):
        if known.sha256 != files.sha256:
            raise BadAdapter(f"adapter {path}: {known.path} is loaded under the same name {files.name!r} with other "
                             "weights; rename one")
        return files.name
    check_base(engine.base, [files])
    engine.owner.call(lambda: put_on(engine, files))
    return files.name


def put_on(engine, files: AdapterFiles) -> None:
    """Attach, prove, and only then publish. For the thread that owns the model."""
    first = not hasattr(engine.model, "peft_config")
    before = engine.model
    if first:
        engine.model = attach(before, [files]).to(engine.device)
    try:
        if not first:
            attach_beside(engine.model, files, engine.device)
        found = receipt(engine, files, engine.untouched)
        if found.problem and not found.changes_anything:
            raise BadAdapter(found.problem)
    except Exception:
        take_off(engine, files.name)
        raise
    engine.receipts[files.name] = found
    engine.adapters[files.name] = files


def attach_beside(peft_model, files: AdapterFiles, device: str) -> None:
    """Attach to a PeftModel that has adapters; which of them is PEFT's active one stays as it was."""
    active = peft_model.active_adapter
    try:
        peft_model.add_adapter(files.name, files.settings.for_peft())
        load_weights(peft_model, files)
    except ValueError as err:
        if isinstance(err, BadAdapter):
            raise
        raise BadAdapter(f"adapter {files.path} does not fit this base: {str(err).splitlines()[0][:160]}") from err
    peft_model.to(device)
    peft_model.set_adapter(active, inference_mode=True)
    peft_model.eval()


def take_off(engine, name: str) -> None:
    """Undo `put_on`: nothing of this adapter stays on the model."""
    others = [other for other in engine.model.peft_config if other != name]
    if not others:
        engine.model = engine.model.unload()
    elif name in engine.model.peft_config:
        engine.model.delete_adapter(name)
        engine.model.set_adapter(others[0], inference_mode=True)
    engine.stack_of.cache_clear()
