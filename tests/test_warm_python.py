"""Programs forked from a server that has their imports (warm_python.py) speak and end as the interpreter's own do."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from conftest import COLD_PYTHON


@pytest.mark.parametrize("program, status", [
    (["-m", "compare", " "], 2), (["-m", "train", "--help"], 0), (["-c", "import sys; sys.exit('哈')"], 1),
    (["-u", "-m", "compare", "q", "--adapter", "no\udcffwhere"], 2)], ids=lambda v: str(v)[:20])
def test_a_program_ends_as_by_the_interpreter(program, status):
    warm, cold = (subprocess.run([python, *program], capture_output=True, timeout=120,
                                 env={**os.environ, "PYTHONIOENCODING": "gbk:replace", "COLUMNS": "70"})
                  for python in (sys.executable, COLD_PYTHON))
    assert sys.executable != COLD_PYTHON and warm.returncode == cold.returncode == status
    assert (warm.stdout, warm.stderr) == (cold.stdout, cold.stderr)
