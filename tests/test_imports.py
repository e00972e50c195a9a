"""Who may import whom, held over every file by reading its imports, through all that they import in turn."""

from __future__ import annotations

import ast
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
OURS = ("lens", "train", "compare", "deploy", "tools", "bench", "tests")
MODEL_LIBRARIES = {"torch", "transformers", "peft", "accelerate", "safetensors"}
# Modules below a place, what they must not reach, and why in a word.
FORBIDDEN = [("lens", {"train", "compare", "gradio"}, "the agreement knows neither of those who keep it"),
             ("train", {"compare", "gradio", "app"}, "they meet in lens and in the adapter directory alone"),
             ("compare", {"train", "app"}, "they meet in lens and in the adapter directory alone"),
             *((place, {"tests", "bench", "deploy", "tools"}, "libraries come first")
               for place in ("lens", "train", "compare"))]
# The same for what is imported when the module is; what a function imports when it is called does not count.
AT_ONCE = [("compare/page", MODEL_LIBRARIES, "the page asks the engine"),
           ("compare/server", MODEL_LIBRARIES, "the server asks the engine")]
STANDARD_LIBRARY_ONLY = ["compare/analysis/repetition.py", "lens/declared_settings.py", "lens/cli.py"]


def imported(source: str, at_once: bool = False) -> set[str]:
    """Dotted names of all that a module imports, `a.b.c` for `from a.b import c` among them, and by `import_module`.

    `at_once`: only what is imported as the module is. Imports that only a type checker sees are not counted.
    """
    found: set[str] = set()
    todo: list[ast.AST] = [ast.parse(source)]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            todo += node.orelse
            continue
        if at_once and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {"."} if node.level else {str(node.module), *(f"{node.module}.{a.name}" for a in node.names)}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in ("import_module", "__import__"):
            if node.args and isinstance(node.args[0], ast.Constant):
                found.add(str(node.args[0].value))
        todo += ast.iter_child_nodes(node)
    return found


@cache
def file_of(module: str) -> Path | None:
    """Where a module of ours is; None for others, and for a name inside a module."""
    path = ROOT / module.replace(".", "/")
    return next((p for p in (path.with_suffix(".py"), path / "__init__.py") if p.is_file()), None)


@cache
def direct(path: Path, at_once: bool) -> frozenset[str]:
    return frozenset(imported(path.read_text(encoding="utf-8"), at_once))


@cache
def reached(path: Path, at_once: bool = False) -> dict[str, list[str]]:
    """Top-level name or `.` → the way to it, from what a file imports on through modules of ours."""
    found: dict[str, list[str]] = {}
    todo, seen = [(path, [str(path.relative_to(ROOT))])], {path}
    while todo:
        here, way = todo.pop()
        for name in direct(here, at_once):
            found.setdefault(name.split(".")[0] or ".", [*way, name])
            parts = name.split(".")
            for i in range(1, len(parts) + 1):  # a package's __init__ is imported on the way
                there = file_of(".".join(parts[:i])) if parts[0] in OURS else None
                if there and there not in seen:
                    seen.add(there)
                    todo.append((there, [*way, name]))
    return found


def modules(place: str) -> list[Path]:
    found = sorted((ROOT / place).rglob("*.py"))
    assert found, f"{place} holds no Python file: the rule has lost its object"
    return found


@pytest.mark.parametrize("source, names, at_once", [
    ("import torch.nn as nn", {"torch.nn"}, {"torch.nn"}),
    ("def f():\n    from train.rows import Row", {"train.rows", "train.rows.Row"}, set()),
    ("import importlib\nimportlib.import_module('train.rows')", {"importlib", "train.rows"},
     {"importlib", "train.rows"}),
    ("from . import other", {"."}, {"."}),
    ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch", {"typing", "typing.TYPE_CHECKING"},
     {"typing", "typing.TYPE_CHECKING"}),
])
def test_every_way_to_import_is_seen(source, names, at_once):
    assert imported(source) == names
    assert imported(source, at_once=True) == at_once


def test_what_is_imported_in_turn_is_seen():
    assert reached(ROOT / "app.py")["torch"][0] == "app.py"  # through the engine, in a function
    assert "torch" in reached(ROOT / "compare" / "engine" / "batch.py", at_once=True)


def broken(place: str, names: set[str], at_once: bool) -> list[str]:
    return [" → ".join(way) for path in modules(place) for name, way in reached(path, at_once).items() if name in names]


@pytest.mark.parametrize("place, names, why", FORBIDDEN, ids=lambda v: v if isinstance(v, str) else "")
def test_no_module_reaches_what_it_must_not(place, names, why):
    assert not broken(place, names, at_once=False), why


@pytest.mark.parametrize("place, names, why", AT_ONCE, ids=lambda v: v if isinstance(v, str) else "")
def test_no_module_loads_what_it_must_not(place, names, why):
    assert not broken(place, names, at_once=True), why


def test_imports_are_absolute_so_that_these_rules_can_be_read_off_them():
    assert not [path for place in OURS for path in modules(place) if "." in direct(path, False)]


def test_only_page_and_server_know_gradio():
    places = [ROOT / "compare" / "page", ROOT / "compare" / "server"]
    assert not [path for path in modules("compare") if not any(path.is_relative_to(place) for place in places)
                and any(name.split(".")[0] == "gradio" for name in direct(path, False))]


@pytest.mark.parametrize("name", STANDARD_LIBRARY_ONLY)
def test_what_is_promised_to_need_no_library_needs_none(name):
    assert set(reached(ROOT / name, at_once=True)) <= sys.stdlib_module_names | {"lens"}
