"""Every entry point lets its threads sleep while they wait, before torch loads, and never over a user's setting."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ENTRIES = ["app", "compare.__main__", "compare.evaluate", "train.__main__", "train.merge", "train.pretrain",
           "train.check", "deploy.ray_serve"]
LOOK = """
import importlib, os, sys
sys.argv = ["x", "--help"]
entry = importlib.import_module(sys.stdin.read())
early = "torch" not in sys.modules
try:
    entry.main()
except SystemExit:
    pass
print(early, os.environ["OMP_WAIT_POLICY"])
"""


def seen(entry: str, **setting: str) -> str:
    env = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"} | setting
    done = subprocess.run([sys.executable, "-c", LOOK], input=entry, cwd=ROOT, env=env, capture_output=True, text=True,
                          timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.splitlines()[-1]


@pytest.mark.parametrize("entry", ENTRIES)
def test_threads_wait_asleep(entry):
    assert seen(entry) == "True PASSIVE"


def test_a_users_own_setting_stays():
    assert seen("compare.__main__", OMP_WAIT_POLICY="ACTIVE") == "True ACTIVE"
