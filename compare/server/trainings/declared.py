"""The settings that a training can be given here, as `python -m train` declares them: asked once, not imported."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from lens.errors import BadSetting

ROOT = Path(__file__).resolve().parents[3]  # where `python -m train` is found
# Those that the Train tab offers beside recipe and steps, in its order.
OFFERED = ("epochs", "r", "lora_alpha", "lora_dropout", "target_modules", "learning_rate", "schedule", "batch",
           "max_length", "drop_cut_rows", "seed", "from_adapter", "columns", "encoding")


@cache
def said() -> dict[str, Any]:
    """What `python -m train.check --settings` says."""
    done = subprocess.run([sys.executable, "-m", "train.check", "--settings"], cwd=ROOT, capture_output=True,
                          check=True, timeout=120)
    return json.loads(done.stdout)


def offered() -> list[dict[str, Any]]:
    """The declarations of the settings offered."""
    known = {declaration["name"]: declaration for declaration in said()["settings"]}
    return [known[name] for name in OFFERED]


def defaults(recipe: str) -> dict[str, Any]:
    """What each offered setting is where nothing else is said."""
    return {d["name"]: said()["recipes"][recipe].get(d["name"], d["default"]) for d in offered()}


def changed(recipe: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Those values that are others than the recipe's, of the declared kind. Raises BadSetting; what a value may be
    beyond that is for the training to say."""
    usual, found = defaults(recipe), {}
    for declaration in offered():
        name = declaration["name"]
        value = of_kind(declaration, values.get(name, usual[name]))
        if value != usual[name]:
            found[name] = value
    return found


def of_kind(declaration: Mapping[str, Any], value: Any) -> Any:
    """A control's value as the setting's. Raises BadSetting."""
    name, kind, many = declaration["name"], declaration["kind"], declaration["many"]
    try:
        if many:
            words = value.split() if isinstance(value, str) else [str(word) for word in value or ()]
            if any(word.startswith("-") for word in words):  # it would be an option of its own
                raise ValueError
            return words
        if kind in ("int", "float"):
            number = float(value)
            if kind == "int" and number % 1:
                raise ValueError
            return int(number) if kind == "int" else number
        if kind == "choice" and value not in declaration["choices"]:
            raise ValueError
        return bool(value) if kind == "bool" else str(value or "").strip()
    except (ValueError, TypeError, OverflowError):
        allowed = ", ".join(declaration["choices"]) or declaration["allowed"] or declaration["help"]
        raise BadSetting("training-setting", name=name, value=repr(value)[:40], allowed=allowed) from None


def as_options(values: Mapping[str, Any]) -> list[str]:
    """On the command line of `python -m train`."""
    options: list[str] = []
    for name, value in values.items():
        flag = "--" + name.replace("_", "-")
        if isinstance(value, bool):
            options.append(flag if value else f"--no-{flag[2:]}")
        elif isinstance(value, list):
            options += [flag, *value] if value else []
        else:
            options.append(f"{flag}={value}")
    return options
