"""The upload of a finished adapter directory: what is sent, and what is said when it fails."""

from __future__ import annotations

from pathlib import Path

import pytest
from training import PARTS, settings

from lens.errors import Unavailable
from train.loop import train


def test_the_result_is_pushed_without_its_checkpoints(tmp_path, rows_file, tiny_base, monkeypatch):
    from huggingface_hub import HfApi

    calls = []
    monkeypatch.setattr(HfApi, "create_repo", lambda self, repo, **k: calls.append(("create", repo)) or "ADDRESS")
    monkeypatch.setattr(HfApi, "upload_folder", lambda self, **k: calls.append(("upload", k)))
    out = train(settings(tiny_base, tmp_path / "out", rows_file, push_to_hub="me/adapter"))
    (_, repo), (_, upload) = calls
    assert repo == upload["repo_id"] == "me/adapter" and Path(upload["folder_path"]) == out
    from huggingface_hub.utils import filter_repo_objects

    files = [str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()]
    sent = set(filter_repo_objects(files, ignore_patterns=upload["ignore_patterns"]))
    assert sent == PARTS | {"log.jsonl", "loss.png"} and len(files) > len(sent)


def test_a_push_that_fails_says_that_the_adapter_is_whole(tmp_path, rows_file, tiny_base):
    with pytest.raises(Unavailable, match="--push-to-hub me/adapter failed .*the adapter is whole in"):
        train(settings(tiny_base, tmp_path / "out", rows_file, push_to_hub="me/adapter"))  # tests are offline
    assert PARTS <= {p.name for p in (tmp_path / "out").iterdir()}
