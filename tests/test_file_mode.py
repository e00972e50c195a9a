"""Files that we write are for whoever the umask says: weights as well, which safetensors leaves to their owner."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from training import settings

from lens.file_mode import follow_umask
from train.loop import train
from train.merge import merge
from train.pretrain import write_model


@pytest.fixture(params=[0o022, 0o077, 0o002], ids=oct)
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def modes(folder: Path) -> dict[str, str]:
    """Of every file below, that is not as the umask asks."""
    return {str(path.relative_to(folder)): oct(path.stat().st_mode & 0o777) for path in folder.rglob("*")}


def wanted(folder: Path, umask: int) -> dict[str, str]:
    return {str(path.relative_to(folder)): oct((0o777 if path.is_dir() else 0o666) & ~umask)
            for path in folder.rglob("*")}


def test_a_file_gets_the_mode_of_one_that_is_opened_there(tmp_path, umask):
    file, outside = tmp_path / "in" / "a", tmp_path / "outside"
    file.parent.mkdir()
    for path in (file, outside):
        path.touch(0o600)
    (file.parent / "link").symlink_to(outside)
    outside.chmod(0o640)
    follow_umask(file.parent)
    assert file.stat().st_mode & 0o777 == 0o666 & ~umask and outside.stat().st_mode & 0o777 == 0o640
    assert {path.name for path in file.parent.iterdir()} == {"a", "link"}


@pytest.mark.parametrize("umask", [0o077, *(pytest.param(one, marks=pytest.mark.slow) for one in (0o022, 0o002))],
                         indirect=True, ids=oct)
def test_an_adapter_its_checkpoints_and_the_merged_model(tiny_base, tmp_path, rows_file, umask):
    out = train(settings(tiny_base, tmp_path / "out", rows_file, max_steps=2, save_steps=1))
    assert (out / "checkpoint-1" / "adapter_model.safetensors").is_file()
    merge(out, str(tiny_base), tmp_path / "merged")
    for folder in (out, tmp_path / "merged"):
        assert modes(folder) == wanted(folder, umask)


def test_a_pretrained_base(tokenizer, tmp_path, umask):
    from conftest import tiny_bloom

    write_model(tiny_bloom(), tokenizer, {}, tmp_path / "base")
    assert (tmp_path / "base" / "model.safetensors").is_file()
    assert modes(tmp_path / "base") == wanted(tmp_path / "base", umask)
