"""`python -m bench.models.exact`: what `make real` holds the weights that it made to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench.models import exact
from bench.shared.by_transformers import plain
from tests.decoders import decoder_base


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return decoder_base(tmp_path_factory.mktemp("exact") / "base", "llama", ends=[2, 4])


def test_a_bases_answers_are_transformers_own_and_a_table_says_so(base, capsys):
    assert exact.main([str(base), "--questions", "5", "--tokens", "12"]) == 0
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("| base"))
    assert [cell.strip() for cell in row.strip("|").split("|")][:2] == ["base", "5"] and "| 5 | 0 | 0 |" in row


def test_an_answer_that_parts_where_no_tie_is_counts_as_wrong(base):
    told, ends, _ = exact.answered(base, None, exact.asked(2), 8)
    columns = [columns[0] for columns in told]
    wrong = replace(columns[0], token_ids=[(columns[0].token_ids[0] + 1) % 320, *columns[0].token_ids[1:]])
    found = exact.compared(plain(base), "base", [wrong, columns[1]], ends, 8)
    assert not found.exact and len(found.parted) == 1
    assert "| base | 2 |" in exact.table([found], 1.0) and "| 1 | 0 | 1 |" in exact.table([found], 1.0)


def test_a_base_that_is_none_is_told(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert exact.main([str(tmp_path / "empty")]) == 2
    assert "empty" in capsys.readouterr().err


def test_as_many_general_questions_as_are_asked_for():
    assert len(exact.asked(50)) == 50 and all(question.text for question in exact.asked(50))
