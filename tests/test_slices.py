"""The report by slices of its rows and by text rules, by hand and through the command."""

from __future__ import annotations

import dataclasses
import json

import pytest
from test_report import ADAPTED_TEXTS, BASE_TEXTS, ROWS, report_of, seen

from compare.evaluate import main
from compare.report.pages import html, markdown
from compare.report.report_files import comparator
from compare.report.slices import MOST, read_rules, slices
from lens.errors import BadSetting
from tests.tiny import tiny_adapter

TAGS = ("people", "school", ["school", "short"], "", "sky")
TAGGED = tuple(dataclasses.replace(row, fields={"tag": tag, "<b>": 1}) for row, tag in zip(ROWS, TAGS, strict=True))
RULES = {"apologises": "抱歉|对不起", "<i>|": "是"}


def sliced(field=None, rules=RULES, rows=TAGGED):
    return slices(rows, seen(BASE_TEXTS, None), seen(ADAPTED_TEXTS), field, rules, seed=0)


def test_slices_by_hand():
    found = sliced()
    assert [(g["name"], g["questions"]) for g in found["groups"]] == [
        ("all", 5), ("school", 2), ("people", 1), ("short", 1), ("sky", 1)]
    everything, school, people, _, sky = found["groups"]
    assert everything["base"]["right"]["value"] == 1 / 4 and everything["adapted"]["right"]["value"] == 3 / 4
    assert [everything[which]["value"] for which in ("won", "lost", "both_wrong")] == [3 / 4, 1 / 4, 0]
    assert school["won"]["value"] == 1 / 2 and school["lost"]["value"] == 1 / 2 and school["won"]["n"] == 2
    assert people["adapted"]["right"]["value"] == 1 and people["base"]["loops"]["value"] == 1
    # Off topic: nothing is right, and declining is counted.
    assert sky["adapted"]["right"] is None and sky["won"] is None and sky["adapted"]["does_not_know"]["value"] == 1
    assert everything["adapted"]["apologises"]["value"] == 1 / 5 and everything["base"]["apologises"]["value"] == 0
    assert 0 <= school["won"]["low"] <= school["won"]["value"] <= school["won"]["high"] <= 1


def test_rows_without_the_field():
    assert slices(ROWS, seen(BASE_TEXTS, None), seen(ADAPTED_TEXTS), None, {}, 0) is None
    assert [g["name"] for g in sliced(rows=ROWS)["groups"]] == ["all"]  # rules alone
    with pytest.raises(BadSetting, match="'topic': no row has it; they have: <b>, tag"):
        sliced("topic")
    many = [dataclasses.replace(ROWS[0], fields={"tag": n}) for n in range(MOST + 3)]
    both = [dataclasses.replace(seen(BASE_TEXTS, None), answers=seen(BASE_TEXTS, None).answers[:1] * len(many))] * 2
    found = slices(many, *both, None, {}, 0)
    assert len(found["groups"]) == MOST + 1 and found["left_out"] == 3


@pytest.mark.parametrize("given, code", [(["x"], "rule-unreadable"), (["=a"], "rule-unreadable"),
                                         (["a=("], "rule-broken"), (["a=b", "a=c"], "rule-name-taken"),
                                         (["right=b"], "rule-name-taken")])
def test_bad_rules_are_told(given, code):
    with pytest.raises(BadSetting) as refused:
        read_rules(given)
    assert refused.value.code == code and refused.value.zh


def test_pages_and_llm_comparator_have_them():
    report = report_of()
    for question, row in zip(report["questions"], TAGGED, strict=True):
        question["slices"] = ["short"] if row.index == 2 else []
    report["slices"] = {**sliced(), "left_out": 2}
    page, text = html(report), markdown(report)
    assert "By tag" in page and "2 smaller slices are left out" in page and "25% → 75%" in page
    assert "<i>" not in page and "&lt;i&gt;" in page
    lines = [line for line in text.splitlines() if "school" in line or "questions | right" in line]
    assert len(lines) == 2 and lines[0].count(" | ") == lines[1].count(" | ") and "\\|" in lines[0]
    # Won, lost, both wrong: one of school's two questions each way, which may as well be none or all.
    assert "| 50% (0–100) | 50% (0–100) | 0% (0–0) |" in lines[1]
    assert "<td>50% <small>(0–100)</small></td>" * 2 + "<td>0% <small>(0–0)</small></td>" in page
    assert comparator(report)["examples"][2]["tags"] == ["question", "short"]
    assert "By tag" not in html(report_of())


def test_the_command(tiny_base, tmp_path, capsys):
    rows = [{"input": "你好", "output": "好", "topic": "greeting"},
            {"input": "再见", "output": "见", "topic": "parting"}]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    given = ["--base", str(tiny_base), "--adapter", tiny_adapter(tmp_path / "one"), "--device", "cpu",
             "--data", str(tmp_path / "rows.jsonl"), "--output", str(tmp_path / "out"), "--max-new-tokens", "4"]
    assert main([*given, "--slice-by", "nothing"]) == 2
    assert "no row has it; they have: topic" in capsys.readouterr().err
    assert main([*given, "--slice-by", "topic", "--rule", "any=."]) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert [g["name"] for g in report["slices"]["groups"]] == ["all", "greeting", "parting"]
    assert report["slices"]["rules"] == {"any": "."} and report["questions"][1]["slices"] == ["parting"]
