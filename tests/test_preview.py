"""What is shown before the first step, and that wrong labels do not pass."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from lens.errors import BadRows, LensError
from lens.rows.rows import Row, Rows
from tests.training import encode_row
from train.data.encoded import IGNORED
from train.data.encoding import encode_rows
from train.data.preview import check_encoded, draw_lengths, show_rows

END = 2
SEED_ENDING = "<|endofutterance|>\n"
ROW = Row("请答", "校训是什么？", "规格严格，功夫到家", "here")
LONG = Row("", "校训是什么？", "规格严格，功夫到家。" * 30, "here")


def shown(rows, tokenizer, max_length=64, color=False, **options) -> str:
    console = Console(file=io.StringIO(), width=200, force_terminal=color, color_system="truecolor" if color else None)
    show_rows(rows, encode_rows(rows, tokenizer, max_length, **options), tokenizer, max_length, console)
    return console.file.getvalue()


def test_counts_and_the_first_row_are_shown(tokenizer):
    rows = Rows([ROW, LONG, ROW, LONG], skipped=[BadRows("no-rows", paths="here")], refusals=5)
    text = shown(rows, tokenizer)
    for said in ("4 rows, 2 cut at --max-length 64", "5 answers that refuse", "1 bad rows skipped, the first: "
                 "no rows in here", "用户\n校训是什么？", "规格严格，功夫到家</s>\n"):
        assert said in text
    read, learnt = text.split("first row, learnt")
    assert "请答" in read and "规格严格" not in read and "校训" not in learnt


def test_a_clean_set_is_not_warned_of(tokenizer):
    text = shown(Rows([ROW]), tokenizer)
    assert "1 rows, 0 cut" in text
    assert not any(word in text for word in ("skipped", "say again", "refuse"))


def test_the_prompt_is_dim_the_answer_bright_its_end_reversed(tokenizer):
    text = shown(Rows([ROW]), tokenizer, color=True)
    assert "\x1b[2m校训是什么？" in text
    assert "\x1b[1;92m规格严格，功夫到家\x1b[0m\x1b[1;7;92m</s>" in text


def test_whole_text_is_all_learnt(tokenizer):
    text = shown(Rows([ROW]), tokenizer, ending=SEED_ENDING, whole_text=True)
    assert "first row, read" not in text
    assert "校训" in text.split("first row, learnt")[1]


def test_a_row_cannot_steer_the_terminal_nor_rich(tokenizer):
    text = shown(Rows([Row("", "[red]问[/red]", "\x1b[2J\x07答\x9b", "here")]), tokenizer)
    assert not {"\x1b", "\x07", "\x9b"} & set(text)
    assert "[red]问[/red]" in text


def test_histogram_holds_every_row_and_shows_the_smallest_bar():
    lines = str(draw_lengths([20] * 1000 + [31, 32, 100], 64)).splitlines()[1:]
    assert [line.split()[-1] for line in lines] == ["1,001", "1", "1"]
    assert [line.split()[0] for line in lines] == ["16", "32", "64"]
    assert [line.count("█") for line in lines] == [30, 1, 1]
    assert "█" not in str(draw_lengths([], 64))


@pytest.mark.parametrize("max_length", [*range(20, 45), 64, 256])
def test_what_is_encoded_passes(tokenizer, max_length):
    seed_ids = tokenizer.encode(SEED_ENDING, add_special_tokens=False)
    rows = Rows([ROW, LONG])
    check_encoded(encode_rows(rows, tokenizer, max_length, whole_text=True), tokenizer, max_length, [END])
    check_encoded(encode_rows(rows, tokenizer, max_length, SEED_ENDING, True), tokenizer, max_length, seed_ids)
    try:
        encoded = encode_rows(rows, tokenizer, max_length, SEED_ENDING)
    except LensError:  # the prompt alone is as long
        assert max_length < 32
        return
    check_encoded(encoded, tokenizer, max_length, seed_ids)
    check_encoded(encode_rows(rows, tokenizer, max_length), tokenizer, max_length, [END])
    check_encoded(encode_rows(rows, tokenizer, max_length, ""), tokenizer, max_length, [])


def broken(row, how):
    ids, labels = list(row["input_ids"]), list(row["labels"])
    if how == "end not learnt":
        labels[-1] = IGNORED
    elif how == "end lost":
        del ids[-1], labels[-1]
    elif how == "other end":
        ids[-1] = 3
    elif how == "lengths differ":
        del ids[0]
    elif how == "too long":
        ids, labels = ids * 9, labels * 9
    return {"input_ids": ids, "labels": labels}


@pytest.mark.parametrize("how", ["end not learnt", "end lost", "other end", "lengths differ", "too long"])
def test_wrong_labels_of_a_whole_row_are_caught(tokenizer, how):
    row = encode_row(ROW, tokenizer, 64)
    with pytest.raises(AssertionError, match="row 2"):
        check_encoded([row, broken(row, how)], tokenizer, 64, [END])


def test_an_end_among_the_labels_of_a_cut_row_is_caught(tokenizer):
    row = encode_row(LONG, tokenizer, 64)
    check_encoded([row], tokenizer, 64, [END])
    row["labels"][-2] = END
    with pytest.raises(AssertionError, match="row 1 is cut"):
        check_encoded([row], tokenizer, 64, [END])
