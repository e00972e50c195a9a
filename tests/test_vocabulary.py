"""Files have names that say what is in them, folders are small enough to see, and every word is used for one thing."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("lens", "train", "compare", "deploy", "tools", "bench")
MOST = 16  # Python files in a folder
# Words that had to be explained, with what they were called for.
RIDDLES = {"utils", "helpers", "helper", "manager", "misc", "common", "heap", "sweep", "ladder", "film", "told", "own",
           "pieces", "line", "room", "shortage", "foreign", "axis", "owner", "product", "doors", "asked", "crossing",
           "workshop", "ballot", "heat", "curve", "ribbon"}
TWICE = {"__init__", "__main__", "tab", "preview", "memory", "loss_curve", "rows", "page"}  # one a room, on purpose


def modules() -> list[Path]:
    return [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]


def test_no_file_has_a_name_that_must_be_explained():
    assert not [path for path in modules() if path.stem in RIDDLES]


@pytest.mark.parametrize("room", ROOMS)
def test_no_folder_holds_more_files_than_one_sees(room):
    count = Counter(path.parent.relative_to(ROOT) for path in (ROOT / room).rglob("*.py"))
    assert count and {str(folder): n for folder, n in count.items() if n > MOST} == {}


def test_no_two_files_have_one_name_for_different_things():
    count = Counter(path.stem for path in modules() if path.parts[-2] != "trust" and "bench" not in path.parts)
    assert {name for name, n in count.items() if n > 1} <= TWICE


def test_every_room_is_in_the_picture():
    picture = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    folders = {path.parent for path in modules() if path.parts[-2] != "trust"}
    assert not [folder for folder in folders if folder.name not in picture]


def test_every_file_that_the_table_sends_to_is_there():
    table = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").split("## To change X")[1].split("##")[0]
    named = [name for name in table.split("`")[1::2] if "/" in name and "<" not in name and " " not in name]
    assert len(named) >= 15
    assert not [name for name in named if not list(ROOT.glob(name.rstrip("/")))]
