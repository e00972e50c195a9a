"""Adapters on a model that runs: attached, proved, published; taken off again.

The thread that owns the model does it between two steps of the batch, so that nobody's answer is disturbed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from compare.engine.receipt import receipt
from lens.adapter_dir import AdapterFiles
from lens.errors import BadAdapter


def attach(model, adapters: Sequence[AdapterFiles]):
    """The base with these adapters, as a PeftModel in evaluation mode with the first one active.

    Raises BadAdapter when a shape or a key does not belong to this base; the base is then unchanged.
    """
    from peft import PeftModel

    peft_model: Any = None  # until the first is on
    for files in adapters:
        config = files.settings.for_peft()
        try:
            if peft_model is None:
                peft_model = PeftModel(model, config, adapter_name=files.name)
            else:
                peft_model.add_adapter(files.name, config)
            load_weights(peft_model, files)
        except (BadAdapter, ValueError) as err:
            if peft_model is not None:
                peft_model.unload()
            if isinstance(err, BadAdapter):
                raise
            raise BadAdapter(f"adapter {files.path} does not fit this base: {str(err).splitlines()[0][:160]}") from err
    peft_model.set_adapter(adapters[0].name, inference_mode=True)
    return peft_model.eval()


def load_weights(peft_model, files: AdapterFiles) -> None:
    """Put a directory's weights into the adapter of its name. Raises BadAdapter unless every key finds its place."""
    from peft.utils import load_peft_weights, set_peft_model_state_dict

    weights = load_peft_weights(str(files.path), device="cpu")
    result: Any  # PEFT says `namedtuple`, which is no type
    try:
        result = set_peft_model_state_dict(peft_model, weights, adapter_name=files.name)
    except (RuntimeError, KeyError, ValueError) as err:
        said = str(err).strip().splitlines()[-1].strip()
        raise BadAdapter(f"adapter {files.path} does not fit this base: {said}") from err
    missing = [k for k in result.missing_keys if f".{files.name}." in k]
    if odd := missing or result.unexpected_keys:
        raise BadAdapter(f"adapter {files.path} does not fit this base: {odd[0]} has no counterpart; "
                         "was it trained on another size?")


def add(engine, path: Path) -> str:
    """Load an adapter directory into a `compare.engine.engine.Engine`; returns the name it has there.

    It is no column of every question, as the timeline's are not: it is there to be asked for. Adding the same again
    does nothing. Raises BadAdapter for one that is no good, or changes nothing; the engine is then as it was.
    """
    return engine.load_adapter(path)


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
