"""What a person at the terminal is told is ours: no warning of one library to another."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.usefixtures("cold")  # with all that is said while libraries are imported
def test_a_question_at_the_terminal_warns_of_nothing():
    """PEFT calls a property of transformers by its old name, and every start of every command told so."""
    done = subprocess.run([sys.executable, "-m", "compare", "哈工大首任校长是谁？", "--max-new-tokens", "4"], cwd=ROOT,
                          capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "Warning" not in done.stderr, done.stderr
