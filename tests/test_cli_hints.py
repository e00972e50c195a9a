"""What the terminal says when a question was taken for a value of the option before it."""

from __future__ import annotations

import pytest

from compare.__main__ import main, parse

QUESTION = "哈工大首任校长是谁？"


def test_a_question_that_an_option_swallowed_is_told_where_to_stand(capsys):
    """--adapter takes several values: the question became one of them, and the error told only that none was there."""
    assert parse(["--adapter", "runs/mine", QUESTION]).question == []
    assert main(["--adapter", "runs/mine", QUESTION]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: the question is empty") and said.count("\n") == 1
    assert "before --adapter and --strength" in said and "after --" in said


@pytest.mark.parametrize("line", [[QUESTION, "--adapter", "runs/mine"], ["--adapter", "runs/mine", "--", QUESTION]])
def test_the_two_ways_it_names_are_read(line):
    assert parse(line).question == [QUESTION] and parse(line).adapter == ["runs/mine"]


def test_a_blank_question_is_told_as_such(capsys):
    assert main(["  "]) == 2
    assert "--adapter" not in capsys.readouterr().err
