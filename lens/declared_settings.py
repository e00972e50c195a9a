"""Settings, each declared once: default, unit and help live here and the command line is derived.

Standard library only, so `--help` and a mistyped option answer at once.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import types
import typing
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from lens.cli import Parser
from lens.errors import BadSetting

T = TypeVar("T")


def setting(default: Any, help: str, unit: str = "", check: Callable[[Any], bool] | None = None,
            allowed: str = "") -> Any:
    """A dataclass field that carries its own help, unit and check.

    `check` returns True for good values; `allowed` says in words what those are.
    """
    meta = {"help": help, "unit": unit, "check": check, "allowed": allowed}
    if isinstance(default, (list, dict)):
        return dataclasses.field(default_factory=lambda: type(default)(default), metadata=meta)
    return dataclasses.field(default=default, metadata=meta)


def positive(value: float) -> bool:
    return value > 0


def share(value: float) -> bool:
    return 0 <= value <= 1


def _plain_type(annotation: Any) -> tuple[Any, bool]:
    """(element type, is it a list?) of a field's annotation; `X | None` counts as X."""
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        return _plain_type(next(a for a in typing.get_args(annotation) if a is not type(None)))
    if origin is list:
        return typing.get_args(annotation)[0], True
    return annotation, False


def add_settings(parser: argparse.ArgumentParser, cls: type) -> None:
    """Give `parser` one option per field of the dataclass `cls`; absent options stay absent."""
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        kind, many = _plain_type(hints[field.name])
        factory = field.default_factory
        default = field.default if factory is dataclasses.MISSING else factory()
        unit = f" [{field.metadata['unit']}]" if field.metadata.get("unit") else ""
        text = f"{field.metadata['help']}{unit} (default: {default})".replace("%", "%%")
        flag = "--" + field.name.replace("_", "-")
        options: dict[str, Any] = {"help": text, "default": argparse.SUPPRESS, "dest": field.name}
        if kind is bool:
            options["action"] = argparse.BooleanOptionalAction
        elif typing.get_origin(kind) is typing.Literal:
            options["choices"] = typing.get_args(kind)
        else:
            options.update(type=kind, metavar=field.name.upper())
        if many:
            options["nargs"] = "+"
        parser.add_argument(flag, **options)


def make_settings(cls: type[T], given: dict[str, Any]) -> T:
    """Build `cls` from given values and check each; raises BadSetting naming setting and value."""
    names = {f.name for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    made = cls(**{k: v for k, v in given.items() if k in names})
    for field in dataclasses.fields(made):  # type: ignore[arg-type]
        value, check = getattr(made, field.name), field.metadata.get("check")
        endless = isinstance(value, float) and not math.isfinite(value)
        if endless or (value is not None and check and not check(value)):
            raise BadSetting("setting-out-of-range", option="--" + field.name.replace("_", "-"), value=repr(value)[:80],
                             allowed=field.metadata["allowed"] or "a number")
    return made


def parse_settings(cls: type[T], prog: str, description: str, argv: Sequence[str] | None = None) -> T:
    """Command line → settings. Raises BadSetting; exits 2 on what is no option at all (entry points only)."""
    return make_settings(cls, parse_given(cls, prog, description, argv))


def parse_given(cls: type, prog: str, description: str, argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Command line → the settings that were given, not yet checked."""
    parser = Parser(prog=prog, description=description)
    add_settings(parser, cls)
    return vars(parser.parse_args(argv))


def declared(cls: type) -> list[dict[str, Any]]:
    """The settings of the dataclass `cls` for programs: name, default, help, unit, what is allowed, kind, choices."""
    hints, found = typing.get_type_hints(cls), []
    for field in dataclasses.fields(cls):
        kind, many = _plain_type(hints[field.name])
        factory = field.default_factory
        choices = list(typing.get_args(kind)) if typing.get_origin(kind) is typing.Literal else []
        found.append({"name": field.name, "default": field.default if factory is dataclasses.MISSING else factory(),
                      "help": field.metadata["help"], "unit": field.metadata["unit"],
                      "allowed": field.metadata["allowed"], "kind": "choice" if choices else kind.__name__,
                      "many": many, "choices": choices})
    return found
