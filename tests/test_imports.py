"""Who may import whom, held over every file by reading its imports: nothing is imported to check it."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MODEL_LIBRARIES = {"torch", "transformers", "peft", "accelerate", "safetensors"}
# Files below a place, what they must not import, and why in a word.
FORBIDDEN = [("train", {"compare", "gradio", "app"}, "they meet in the adapter directory alone"),
             ("compare", {"train", "app"}, "they meet in the adapter directory alone"),
             ("compare/page", MODEL_LIBRARIES, "the page asks the engine"),
             ("train", {"tests", "bench", "deploy"}, "libraries come first"),
             ("compare", {"tests", "bench", "deploy"}, "libraries come first"),
             ("train", {"."}, "imports are absolute, so that these rules can be read off them"),
             ("compare", {"."}, "imports are absolute, so that these rules can be read off them")]
STANDARD_LIBRARY_ONLY = ["compare/analysis/repetition.py", "lens/settings.py"]


def imported(source: str) -> set[str]:
    """Top-level names of all that a module imports, inside functions and by literal `import_module` as well.

    Imports that only a type checker sees (`if TYPE_CHECKING:`) are not counted.
    """
    found: set[str] = set()
    todo: list[ast.AST] = [ast.parse(source)]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            todo += node.orelse
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add("." if node.level else str(node.module).split(".")[0])
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in ("import_module", "__import__"):
            if node.args and isinstance(node.args[0], ast.Constant):
                found.add(str(node.args[0].value).split(".")[0])
        todo += ast.iter_child_nodes(node)
    return found


def modules(place: str) -> list[Path]:
    found = sorted((ROOT / place).rglob("*.py"))
    assert found, f"{place} holds no Python file: the rule has lost its object"
    return found


@pytest.mark.parametrize("source, names", [
    ("import torch.nn as nn", {"torch"}),
    ("def f():\n    from lens.rows.rows import Row", {"train"}),
    ("import importlib\nimportlib.import_module('lens.rows.rows')", {"importlib", "train"}),
    ("from . import other", {"."}),
    ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch", {"typing"}),
])
def test_every_way_to_import_is_seen(source, names):
    assert imported(source) == names


@pytest.mark.parametrize("place, names, why", FORBIDDEN, ids=lambda v: v if isinstance(v, str) else "")
def test_no_module_imports_what_it_must_not_know(place, names, why):
    broken = {f"{path.relative_to(ROOT)} imports {name}" for path in modules(place)
              for name in imported(path.read_text(encoding="utf-8")) & names}
    assert not broken, why


def test_only_the_page_knows_gradio():
    page = ROOT / "compare" / "page"
    assert not [path for path in modules("compare") if not path.is_relative_to(page)
                and "gradio" in imported(path.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("name", STANDARD_LIBRARY_ONLY)
def test_what_is_promised_to_need_no_library_needs_none(name):
    assert imported((ROOT / name).read_text(encoding="utf-8")) <= sys.stdlib_module_names
