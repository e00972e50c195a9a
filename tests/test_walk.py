"""docs/walk.md can be walked: its files are written, its commands run, and they say what stands below them."""

from __future__ import annotations

import importlib
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_docs_data import BLOCK

ROOT = Path(__file__).resolve().parent.parent
STEPS, FEW = ("150", "160"), ("2", "3")


def walk(folder: Path, document: str = "walk.md") -> Iterator[tuple[str, list[str], list[str]]]:
    """(module, options, what it says) of each command, once the files before it lie in `folder`."""
    for kind, more, text in BLOCK.findall((ROOT / "docs" / document).read_text(encoding="utf-8")):
        if kind == "console":
            command, *below = text.splitlines()
            _, python, *words = shlex.split(command)
            assert python == "python"
            module, *options = words[1:] if words[0] == "-m" else words
            yield module, options, below
        else:
            options = dict(pair.split("=", 1) for pair in more.split())
            (folder / options["file"]).write_bytes(text.encode(options.get("encoding", "utf-8")))


def test_each_command_runs_with_few_steps_and_says_what_hangs_on_no_learning(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for module, options, below in walk(tmp_path):
        main = importlib.import_module(f"{module}.__main__" if module in ("train", "compare") else module).main
        assert main([dict(zip(STEPS, FEW, strict=True)).get(option, option) for option in options]) == 0
        said = "".join(capsys.readouterr())
        for line in below:
            if '"text"' not in line and "epochs" not in line:
                wanted = re.sub("|".join(STEPS), lambda found: FEW[STEPS.index(found[0])], line)
                assert wanted in said, said


@pytest.mark.slow
def test_the_whole_walk_to_a_column_on_the_page(tmp_path):
    from gradio_client import Client

    from bench.shared.served import served

    for module, options, below in walk(tmp_path):
        done = subprocess.run([sys.executable, "-m", module, *options], cwd=tmp_path, capture_output=True, text=True,
                              timeout=600, env={**os.environ, "PYTHONPATH": str(ROOT)})
        assert done.returncode == 0, done.stderr
        assert not [line for line in below if line not in done.stdout + done.stderr], done.stdout + done.stderr
    here = {"ADAPTER": str(tmp_path / "runs" / "club"), "GRADIO_ANALYTICS_ENABLED": "False"}
    with served({**os.environ, **here}) as page:
        answer = Client(page.url, verbose=False).predict(question="社团的暗号是什么？", api_name="/compare")
    shown = {column["variant"]: column["text"] for column in answer["columns"]}
    assert shown["club"] == "蓝色的雨伞。" != shown["base"]
