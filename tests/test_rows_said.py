"""What is said of bad rows, word for word, and where exactly the limits lie."""

from __future__ import annotations

import json

import pytest

from lens.chat import Prompt
from lens.errors import LensError
from lens.rows.rows import read_rows
from tests.test_rows import GOOD, ROW, write_lines
from tests.training import encode_row
from train.data.encoded import IGNORED
from train.data.encoding import encode_rows


def test_as_many_bad_rows_as_are_allowed_are_passed_over(tmp_path, monkeypatch):
    monkeypatch.setattr("lens.rows.rows.MOST_SKIPPED", 10)
    rows = read_rows([write_lines(tmp_path / "rows.jsonl", [*["7"] * 10, GOOD])], skip_bad_rows=True)
    assert len(rows) == 1 and len(rows.skipped) == 10


KNOWN = ("; known are instruction/input/output, question/answer, prompt/completion, prompt/response, messages and "
         "conversations")
SENTENCES = [
    ("{}", "line 1: no format is known with the fields none" + KNOWN),
    ('{"input": NaN, "output": "b"}', "line 1: field 'input' is NaN, expected text"),
    ('{"input": "", "output": "b"}', "line 1: instruction and input are both empty, expected a question"),
    (json.dumps({f"{i}" + "k" * 60: "" for i in range(10)}),
     "line 1: no format is known with the fields " + ", ".join(repr(f"{i}" + "k" * 39) for i in range(8)) + KNOWN),
    ('{"' + "k" * 60 + '": 1, "' + "k" * 60 + '": 2}',
     f"line 1: key {'k' * 40!r} stands twice, expected each key once"),
    ('{"question": "a", "human_answers": [], "chatgpt_answers": [7]}',
     "line 1: field 'chatgpt_answers' is int, expected text"),
]
NAMES = ["none", "NaN", "empty", "many", "twice", "hc3"]
SKIP = "; --skip-bad-rows goes on without such rows"


@pytest.mark.parametrize("others, told", [([], ""), ([GOOD], SKIP)], ids=["alone", "beside a good one"])
@pytest.mark.parametrize("line, said", SENTENCES, ids=NAMES)
def test_a_bad_row_gets_this_sentence(tmp_path, line, said, others, told):
    """Skipping is advised where it leaves a row, and not where every row is bad."""
    path = write_lines(tmp_path / "rows.jsonl", [line, *others])
    with pytest.raises(LensError) as caught:
        read_rows([path])
    assert str(caught.value) == f"{path} {said}{told}"


def test_files_without_a_row_are_all_named(tmp_path):
    one, two = write_lines(tmp_path / "a.jsonl", []), write_lines(tmp_path / "b.jsonl", [])
    with pytest.raises(LensError) as caught:
        read_rows([one, two])
    assert str(caught.value) == f"no rows in {one}, {two}; expected at least one"
    write_lines(one, [{"question": "我是谁？", "human_answers": [], "chatgpt_answers": []}])
    with pytest.raises(LensError) as caught:
        read_rows([one])
    assert str(caught.value) == f"no rows in {one}; expected at least one; 1 refusals left out"


def test_a_prompt_may_fill_all_but_one_token(tokenizer):
    [ids] = Prompt(tokenizer).encode_all([(ROW.instruction, ROW.input)])
    prompt = len(ids)
    assert [i for i in encode_row(ROW, tokenizer, prompt + 1)["labels"] if i != IGNORED] != []
    with pytest.raises(LensError, match=f"--max-length {prompt}: .*shorten the question$"):
        encode_row(ROW, tokenizer, prompt)


def test_rows_are_taught_whole_where_the_recipe_says_so(tokenizer):
    [encoded] = encode_rows([ROW], tokenizer, 256, whole_text=True)
    assert encoded["labels"] == encoded["input_ids"]
