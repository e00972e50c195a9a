"""assets/quickstart.ipynb: its cells run top to bottom, in order, without Jupyter; nothing of a run is stored in it."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / "assets" / "quickstart.ipynb"
PACKAGES = {"torch", "transformers", "peft", "gradio", "accelerate", "datasets", "rich", "matplotlib",
            "lens", "train", "compare"}


def code_cells() -> list[str]:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def test_it_is_plain_python_stores_no_run_and_needs_only_what_is_installed():
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
    assert not [cell for cell in notebook["cells"] if cell.get("outputs") or cell.get("execution_count")]
    nodes = [node for cell in code_cells() for node in ast.walk(ast.parse(cell))]
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in names} - sys.stdlib_module_names <= PACKAGES


def test_what_it_imports_of_this_project_is_there():
    nodes = [node for cell in code_cells() for node in ast.walk(ast.parse(cell)) if isinstance(node, ast.ImportFrom)]
    ours = {node.module: node for node in nodes if node.module.split(".")[0] in ("lens", "train", "compare")}
    assert len(ours) > 8
    for module, node in ours.items():
        text = (ROOT / (module.replace(".", "/") + ".py")).read_text(encoding="utf-8")
        assert not {alias.name for alias in node.names} - set(re.findall(r"\w+", text)), module


@pytest.mark.slow
def test_it_runs_from_the_first_cell_to_the_last(tmp_path):
    script = tmp_path / "cells.py"
    script.write_text("\n\n".join(f"print('[cell {i}]', flush=True)\n{cell}" for i, cell in enumerate(code_cells())),
                      encoding="utf-8")
    env = {**os.environ, "QUICKSTART_STEPS": "12", "QUICKSTART_OUTPUT": str(tmp_path), "CUDA_VISIBLE_DEVICES": ""}
    env.pop("BASE_MODEL", None)
    done = subprocess.run([sys.executable, str(script)], cwd=ROOT / "assets", env=env, capture_output=True, text=True,
                          timeout=1200)
    assert done.returncode == 0, done.stderr[-3000:]
    told = done.stdout
    assert f"[cell {len(code_cells()) - 1}]" in told and "strength 0 is the base, token for token" in told
    losses = [float(line.split("loss")[1]) for line in told.splitlines() if line.startswith("step ")]
    assert len(losses) > 2 and losses[-1] < losses[0]
    assert "规格严格，功夫到家" in told.split("lens: ")[1]  # the shipped adapter's answer, cell 7
    [run] = tmp_path.glob("quickstart-*")
    assert (run / "adapter" / "adapter_model.safetensors").is_file() and (run / "merged" / "config.json").is_file()
