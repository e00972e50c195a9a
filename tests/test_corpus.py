"""What pretraining refuses, in one sentence: too little text, and prose that is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from lens.errors import LensError
from train.pretraining.corpus import load_streams


def streams(tokenizer, folder: Path, prose: Path | None = None, window: int = 64):
    return load_streams(folder, prose, 0.2, tokenizer.backend_tokenizer, 2, window, 0, folder / "tokens")


def test_text_too_short_to_hold_a_window_out_is_told(tokenizer, tmp_path):
    (tmp_path / "a.txt").write_text("短句很短。" * 100, encoding="utf-8")
    with pytest.raises(LensError, match="held-out text .* too few for one window of 64; .*shorter --window"):
        streams(tokenizer, tmp_path)
    assert streams(tokenizer, tmp_path, window=2)


@pytest.mark.parametrize("content, said", [(None, "no such file"), (b"[1]", "line 1: expected"), (b"\xff", "UTF-8")])
def test_prose_that_is_none_is_told(tokenizer, tmp_path, content, said):
    (tmp_path / "a.txt").write_text("短句很短。" * 2000, encoding="utf-8")
    prose = tmp_path / "facts.rows"
    if content is not None:
        prose.write_bytes(content)
    with pytest.raises(LensError, match=f"--prose .*{said}"):
        streams(tokenizer, tmp_path, prose, window=8)
