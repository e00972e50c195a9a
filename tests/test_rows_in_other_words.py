"""Questions in other words: nothing held out comes near, answers stay, names and numbers are whole."""

from __future__ import annotations

import random

import pytest

from tools.build_english_rows import carelessly
from tools.build_rows import INSTRUCTION, NearDuplicates, held_out, read
from tools.vary_questions import swapped, varied, vary


def test_variants_keep_their_rows_answer_and_come_near_no_held_out_question():
    rows = read("train.jsonl")[:600]
    made, left_out = vary(rows, 3, 3)
    answers = {row["output"] for row in rows}
    assert [row for row in made if row in rows] and len(made) > 2 * len(rows)
    assert len({row["input"] for row in made}) == len({row["input"] for row in rows}) + len(made) - len(rows)
    assert all(row["output"] in answers and row["instruction"] in ("", INSTRUCTION) for row in made)
    kept_out = NearDuplicates([row["input"] for row in held_out()])
    assert not [row["input"] for row in made if kept_out.of(row["input"])]
    assert vary(rows, 3, 3) == (made, left_out)


def test_a_held_out_question_is_left_out_in_any_wording_that_comes_near():
    row = {"instruction": "", "input": held_out()[0]["input"] + "呀", "output": "答"}
    made, left_out = vary([row], 40, 0)
    assert left_out > 5 and NearDuplicates([held_out()[0]["input"]]).of(row["input"])
    assert len(made) - 1 < 40 - left_out


@pytest.mark.parametrize("question, whole", [
    ("哈工大大学生创新项目", "大学生"), ("学生会在哪里", "学生会"), ("HITSZ-OpenAuto是什么", "HITSZ-OpenAuto"),
    ("校园网怎么连", "校园网"), ("哈工大（深圳）哪一年建的", "哈工大（深圳）"),
])
def test_parts_of_longer_words_are_not_swapped(question, whole):
    made = {swapped(question, random.Random(seed)) for seed in range(40)}
    assert all(whole in other for other in made)


def test_numbers_are_not_miswritten():
    made = {varied("2019年哈工大是第3名吗，还是第5名", random.Random(seed)) for seed in range(200)}
    assert len(made) > 50 and all("2019" in other and "3" in other and "5" in other for other in made)


def test_a_careless_question_names_the_university_once():
    made = {carelessly("Who was the HIT president in " + str(year)) for year in range(1900, 2000)}
    assert len(made) > 80 and not [one for one in made if "the the" in one.lower()]
