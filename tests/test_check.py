"""`python -m train.check` for programs: what it refuses is JSON too, with the step that helps apart."""

from __future__ import annotations

import json

import pytest

from compare.page.training.preview import draw_preview, look
from compare.server.trainings.job import Plan
from lens.errors import BadRows
from train.check import main

GOOD, BARE = {"input": "校训？", "output": "规格严格"}, {"input": "校训？"}


def rows_in(path, *rows):
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize("rows, code, then, said", [
    ([GOOD, BARE], "row-field-missing", "next-skip", "--skip-bad-rows"),
    ([{"ask": "甲", "reply": "乙"}], "row-keys-unknown", "next-columns", "--columns input=ask output=reply"),
    ([BARE], "row-field-missing", None, ""),
    ([{"text": "一段文字"}], "row-plain-text", None, ""),
], ids=["a good one too", "other names", "all bad", "plain text"])
def test_a_refusal_is_json_with_its_code(tiny_base, tmp_path, capsys, rows, code, then, said):
    path = rows_in(tmp_path / "rows.jsonl", *rows)
    assert main(["--base", str(tiny_base), "--data", str(path)]) == 2
    out, err = capsys.readouterr()
    error = json.loads(out)["error"]
    assert error["code"] == code and error["message"] != error["message_zh"]
    assert (error["next"] or {}).get("code") == then and said in str(error["next"])
    assert "--" not in error["message"].replace("python -m train.pretrain --corpus", "")
    assert err.startswith("error: ") and err.count("\n") == 1


def test_an_option_out_of_range_is_json_too(tiny_base, capsys):
    assert main(["--base", str(tiny_base), "--max-steps", "0"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "setting-out-of-range"


def test_the_tab_says_it_in_both_languages(tiny_base, tmp_path):
    path = rows_in(tmp_path / "rows.jsonl", {"ask": "甲", "reply": "乙"})
    with pytest.raises(BadRows) as caught:
        look(Plan(str(tiny_base), "lens", 10, "mine.jsonl", str(path)))
    assert caught.value.code == "rows-columns"
    assert "mine.jsonl line 1: no format is known with the fields 'ask', 'reply'" in str(caught.value)
    assert "没有一种已知格式有这些字段" in caught.value.zh and "input=ask output=reply" in caught.value.zh
    assert str(tmp_path) not in str(caught.value) + caught.value.zh


def test_what_is_foretold_is_shown_in_both_languages(tiny_base, tmp_path):
    path = rows_in(tmp_path / "rows.jsonl", {**GOOD, "page": "7"}, {**GOOD, "output": "功夫到家"})
    html = draw_preview(look(Plan(str(tiny_base), "lens", 10, "mine.jsonl", str(path))))
    for said in ("2 rows read as instruction/input/output", "2 行按 instruction/input/output 读取",
                 "&#39;page&#39; is not used", "没有用到", "epochs"):
        assert said in html
