"""A base and an adapter by their names on a hub: fetched, shown by those names, and not fetched a second time."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest
from conftest import ADAPTER, ASSETS, BASE, MOTTO
from fake_hub import hub


@pytest.fixture
def away(tmp_path, cold):
    """A hub with the embedded pair, a program's environment that reaches it alone, and what was fetched."""
    for name, place in (("school/base", BASE), ("school/motto", ADAPTER)):
        shutil.copytree(place, tmp_path / "hub" / name)
    with hub(tmp_path / "hub") as (url, fetched):
        yield {**os.environ, "HF_ENDPOINT": url, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1",
               "HF_HOME": str(tmp_path / "cache")}, fetched


def compare(env, *args):
    return subprocess.run([sys.executable, "-m", "compare", MOTTO, "--json", "--max-new-tokens", "24", *args],
                          env=env, cwd=ASSETS.parent, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_both_are_fetched_by_their_names_and_but_once(away):
    env, fetched = away
    named = ["--base", "school/base", "--adapter", "school/motto"]
    done = compare(env, *named)
    assert done.returncode == 0, done.stderr
    assert "school/base" in done.stderr and "0.01 GB" in done.stderr  # what is fetched, and how much, is told
    columns = json.loads(done.stdout)["columns"]
    assert [column["variant"] for column in columns] == ["base", "school/motto"]
    assert fetched.count("model.safetensors") == fetched.count("adapter_model.safetensors") == 1
    assert "规格严格" in columns[1]["text"]
    before = list(fetched)
    again = compare(env, *named)
    assert json.loads(again.stdout)["columns"][1]["text"] == columns[1]["text"] and fetched == before


@pytest.mark.slow
def test_a_repository_that_is_not_there_is_told_by_its_name(away):
    env, _ = away
    done = compare(env, "--base", "school/base", "--adapter", "school/none")
    assert done.returncode == 2 and "school/none" in done.stderr and "Traceback" not in done.stderr


def test_the_page_loads_one_by_its_name(away):
    env, fetched = away
    program = ("from compare.engine.local import LocalEngine\n"
               "from compare.server.loading.page_adapters import Loading\n"
               "from compare.server.permissions import Permission\n"
               f"engine = LocalEngine({str(BASE)!r}, device='cpu')\n"
               "mine = Loading(engine, Permission(None))\n"
               "held = mine.load(mine.hub(' school/motto '), 'me')\n"
               "print(held.adapter.name, held.adapter.receipt.base_exact, list(engine.adapters))\n")
    done = subprocess.run([sys.executable, "-c", program], env=env, cwd=ASSETS.parent, capture_output=True, text=True,
                          timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "school/motto True ['school/motto']\n" and "adapter_model.safetensors" in fetched
