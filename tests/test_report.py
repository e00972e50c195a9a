"""The report's figures by hand, its pages and its gate; no model."""

from __future__ import annotations

import json

import pytest

from compare.report import statistics
from compare.report.answered_rows import Losses
from compare.report.measure_words import verdict
from compare.report.measures import judge, says_it_does_not_know
from compare.report.pages import html, markdown
from compare.report.pictures import pictures
from compare.report.regression import gate
from compare.report.report_files import comparator, write
from compare.report.rows import Row, read_data
from compare.report.summary import Seen, summarise
from lens.errors import BadRows, BadSetting
from lens.rows.row_options import RowOptions
from tests.conftest import ASSETS

ROWS = (Row(0, "首任校长是谁？", output="宋小濂", keywords=("宋小濂",)),
        Row(1, "校训是什么？", output="规格严格，功夫到家", keywords=("规格严格", "功夫到家")),
        Row(2, "英文缩写？", output="HIT", keywords=("hit",)),
        Row(3, "哪年建校？", output="1920年"),
        Row(4, "月亮有多远？", output="不知道。", kind="unknown"))
EVIL = "<script>alert(1)</script>| [x](javascript:y)"
BASE_TEXTS = ("是" * 30, EVIL, "这是 HIT", "一九二零", "很远很远")
ADAPTED_TEXTS = ("是宋小濂。", "规格严格，功夫到家", "Harbin", "1920 年", "对不起，我不知道。")


def seen(texts, adapter: str | None = "lens", strength: float = 1.0, nats=(4.0, 6.0), step=None) -> Seen:
    """Answers whose tokens are their characters; those over 20 characters were cut."""
    name = "base" if adapter is None else adapter if strength == 1 else f"{adapter}@{strength:g}"
    answers = tuple(judge(row, name, adapter, strength if adapter else 0.0, text, [ord(c) for c in text],
                          "length" if len(text) > 20 else "stop") for row, text in zip(ROWS, texts, strict=True))
    return Seen(answers, Losses(nats, (2, 3)), step)


@pytest.mark.parametrize("corpus", ["hit_qa", "hit_en"])
def test_every_answer_taught_for_what_is_not_known_counts_as_such_and_no_fact_does(corpus):
    def answers(name):
        path = ASSETS / corpus / name
        return [json.loads(line)["answer"] for line in path.read_text(encoding="utf-8").splitlines()]

    assert [text for text in answers("unknown.jsonl") if not says_it_does_not_know(text)] == []
    assert [text for text in answers("facts.jsonl") if says_it_does_not_know(text)] == []


def report_of(adapted_texts=ADAPTED_TEXTS, others=(), checkpoints=()) -> dict:
    variants = [seen(BASE_TEXTS, None, nats=(2.0, 3.0), step=0), seen(adapted_texts, step=100), *others]
    figures = summarise(ROWS, variants, checkpoints, seed=0)
    return {"base": {"name": "base", "sha256": "0" * 64},
            "adapter": {"name": "lens", "sha256": "1" * 64, "r": 8, "step": 100},
            "data": {"name": "rows.jsonl", "sha256": "2" * 64, "questions": 4, "off_topic": 1, "repeats": 0,
                     "skipped": 0},
            "plain": {"name": "plain.txt", "sha256": "3" * 64, "sentences": 2},
            "settings": {"max_new_tokens": 30, "temperature": 0}, "verdict": verdict(figures["variants"]), **figures}


def test_five_questions_by_hand():
    base, adapted = report_of()["variants"]
    value = {name: f and f["value"] for name, f in adapted["measures"].items()}
    # Right: the first two by keyword, the fourth equals its reference but for a space; the third lost its keyword.
    assert value["right"] == 3 / 4 and value["exact"] == 2 / 4 and value["keywords"] == pytest.approx(2 / 3, abs=1e-6)
    assert base["measures"]["right"]["value"] == 1 / 4  # HIT, whatever its case
    assert base["measures"]["loops"]["value"] == 1 / 4 and value["loops"] == 0
    assert base["measures"]["ended"]["value"] == 2 / 4 and value["ended"] == 1
    assert value["tokens"] == (5 + 9 + 6 + 6) / 4
    assert adapted["difference"]["right"]["value"] == 2 / 4
    assert adapted["mcnemar"] == {"wrong_to_right": 3, "right_to_wrong": 1, "p": 2 * (1 + 4) / 16}
    assert adapted["off_topic"]["does_not_know"]["value"] == 1 and base["off_topic"]["does_not_know"]["value"] == 0
    assert adapted["plain"]["perplexity"]["value"] == pytest.approx(2.718282**2, abs=1e-4)
    assert adapted["plain"]["ratio"]["value"] == pytest.approx(2.718282, abs=1e-4)


def test_flips_name_the_rows():
    assert report_of()["flips"] == {"wrong_to_right": [0, 1, 3], "right_to_wrong": [2]}


def test_a_loop_says_where_it_begins():
    row = Row(0, "问", keywords=("x",))
    answer = judge(row, "base", None, 0.0, "…", [5, 6, *[7, 8] * 12], "length")
    assert answer.loop == {"period": 2, "copies": 12, "onset": 2} and not answer.ended
    assert answer.seq_rep_4 == pytest.approx(1 - 4 / 23)  # 23 4-grams, four different
    assert answer.exact is None and answer.chrf is None


def test_chrf_by_hand():
    """ab against abc: precision 1; recall 2/3 and 1/2 for 1- and 2-grams; F with recall weighed four times."""
    recall = (2 / 3 + 1 / 2) / 2
    assert judge(Row(0, "问", output="abc"), "x", "x", 1.0, "ab", [1, 2], "stop").chrf == pytest.approx(
        100 * 5 * recall / (4 + recall), abs=1e-3)


def test_intervals():
    values = [0.0] * 50 + [1.0] * 50
    found = statistics.mean(values, seed=0)
    assert found == statistics.mean(values, seed=0)
    # The normal approximation: 0.5 ± 1.96 · sqrt(0.25 / 100).
    assert (found.low, found.high) == (pytest.approx(0.402, abs=0.015), pytest.approx(0.598, abs=0.015))
    same = statistics.difference([1.0, 2.0, 3.0], [2.0, 3.0, 4.0], seed=0)
    assert (same.value, same.low, same.high) == (1.0, 1.0, 1.0)
    assert statistics.mean([], seed=0) is None


@pytest.mark.parametrize("up, down, p", [(0, 0, 1.0), (5, 0, 2 / 32), (1, 1, 1.0), (9, 1, 2 * 11 / 1024)])
def test_mcnemar_by_hand(up, down, p):
    before = [False] * up + [True] * down + [True]
    assert statistics.mcnemar(before, [not b for b in before[:-1]] + [True]).p == pytest.approx(p)


def test_the_page_escapes_and_loads_nothing():
    page = html(report_of(others=[seen(ADAPTED_TEXTS, strength=0.5)], checkpoints=[seen(BASE_TEXTS, step=10)]))
    assert "<script" not in page and "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "default-src 'none'" in page and "http://" not in page and "https://" not in page
    assert page.count('src="data:image/png;base64,') == 2 and "prefers-color-scheme: dark" in page
    assert "Wrong → right: 3" in page and "Right → wrong: 1" in page


def test_markdown_keeps_its_tables():
    text = markdown(report_of())
    assert "<script" not in text and "\\| \\[x\\]\\(javascript:y\\)" in text
    row = next(line for line in text.splitlines() if "校训是什么" in line)
    assert row.replace("\\|", "").count("|") == 5


def test_llm_comparator():
    found = comparator(report_of())
    assert set(found) == {"metadata", "models", "examples"} and [m["name"] for m in found["models"]] == ["lens", "base"]
    first, third, last = found["examples"][0], found["examples"][2], found["examples"][-1]
    assert (first["score"], third["score"], last["score"]) == (1.5, -1.5, 0)
    assert first["output_text_a"] == ADAPTED_TEXTS[0] and first["custom_fields"]["loops"] == [False, True]
    for field in found["metadata"]["custom_fields_schema"]:
        assert all(field["name"] in e["custom_fields"] for e in found["examples"])


def test_pictures_are_the_same_for_the_same_figures():
    report = report_of(others=[seen(ADAPTED_TEXTS, strength=0.5)], checkpoints=[seen(BASE_TEXTS, step=10)])
    drawn = pictures(report)
    assert set(drawn) == {"pair", "strengths", "checkpoints"} and drawn == pictures(report)
    assert all(png.startswith(b"\x89PNG") for png in drawn.values()) and set(pictures(report_of())) == {"pair"}


def test_files(tmp_path):
    report = report_of()
    assert {p.name for p in write(report, tmp_path)} == {p.name for p in tmp_path.iterdir()} == {
        "report.json", "report.md", "report.html", "llm_comparator.json", "pair.png"}
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8")) == report


def test_the_verdict_says_what_happened():
    said = verdict(report_of()["variants"])
    assert "perplexity 2.7 → 7.4, × 2.72" in said["forgetting"]["en"] and "very much" in said["forgetting"]["en"]
    assert said["forgetting"]["level"] == "bad" and said["off_topic"]["level"] == "good"
    assert "3 became right, 1 became wrong" in said["helped"]["en"] and said["helped"]["level"] == "same"


def test_the_gate():
    good, worse = report_of(), report_of(("是", *ADAPTED_TEXTS[1:]))
    failed = gate(good, worse)
    assert not failed.passed and failed.lost == (ROWS[0].input,) and "gate failed: 50.0% right" in failed.sentence()
    assert gate(worse, good).passed and gate(good, good).passed
    assert gate(good, worse, margin=0.25).passed


def test_the_gate_compares_only_what_can_be_compared():
    old, new = report_of(), report_of()
    new["questions"] = new["questions"][1:]
    with pytest.raises(BadSetting, match="not all the same"):
        gate(old, new)
    new = {**report_of(), "settings": {"max_new_tokens": 64}}
    with pytest.raises(BadSetting, match="max_new_tokens was 30 and is 64"):
        gate(old, new)


@pytest.mark.parametrize("text, said", [
    ("", "no rows in"),
    ('{"input": ', "line 1 is not JSON"),
    ('{"input": "x"}', "line 1 has no reference"),
    ('{"input": "x", "output": "y"}\n{"input": " ", "output": "y"}', "line 2: instruction and input are both empty"),
    ('{"input": "x", "output": 3}', "'output' is int"),
    ('{"input": "x", "keywords": "y"}', "'keywords' is 'y'"),
    ('["x"]', "found list"),
    ('{"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}, '
     '{"role": "user", "content": "z"}]}', "conversation of 2 turns"),
    ('{"input": "x", "output": "y", "kind": "unknown"}', "only rows of kind 'unknown'"),
])
def test_bad_rows_are_named(tmp_path, text, said):
    path = tmp_path / "rows.jsonl"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BadRows, match=said):
        read_data(path)


def written(path, *rows):
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    return path


def test_a_question_that_stands_ten_times_counts_once(tmp_path):
    """"100% of 10, p 0.002" was one question."""
    one = {"input": "校训是什么？", "output": "规格严格"}
    other = {**one, "output": "功夫到家"}
    found = read_data(written(tmp_path / "rows.jsonl", *[one] * 9, {"input": "哪年建校？", "output": "1920"}, other))
    assert [(row.index, row.input, row.output) for row in found.rows] == [(0, "校训是什么？", "规格严格"),
                                                                         (1, "哪年建校？", "1920")]
    assert found.repeats == 9
    assert [note.code for note in found.notes] == ["read-as", "report-rows-repeated", "report-rows-contradict"]
    assert "9 rows ask a question that stands before them already; each of the 2" in str(found.notes[1])
    # The same question under another instruction is another question.
    assert read_data(written(tmp_path / "two.jsonl", one, {**one, "instruction": "请简短"})).repeats == 0


def test_evaluation_reads_what_training_reads(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_bytes("ask;reply;page\n校训是什么？;规格严格;7\n ;空的;8\n".encode("gb18030"))
    with pytest.raises(BadRows, match="line 3: instruction and input are both empty.*--skip-bad-rows"):
        read_data(path, options=RowOptions(["input=ask", "output=reply"]))
    found = read_data(path, options=RowOptions(["input=ask", "output=reply"], "gb18030", True))
    assert [(row.input, row.output) for row in found.rows] == [("校训是什么？", "规格严格")] and found.skipped == 1
    assert {"unused-field", "bad-rows-skipped"} <= {note.code for note in found.notes}


def test_a_row_without_a_reference_can_be_skipped(tmp_path):
    path = written(tmp_path / "rows.jsonl", {"input": "甲？"}, {"input": "乙？", "output": "乙"})
    with pytest.raises(BadRows, match="line 1 has no reference; .*; --skip-bad-rows goes on without such rows"):
        read_data(path)
    found = read_data(path, options=RowOptions(skip_bad_rows=True))
    assert [row.input for row in found.rows] == ["乙？"] and found.skipped == 1


STEERING = "a\x1b[31mb\x07c\x9bd\u202ee"


def test_no_row_and_no_answer_steers_who_reads_the_report(tmp_path):
    report = report_of((STEERING, *ADAPTED_TEXTS[1:]))
    report["questions"][1]["input"] = report["adapter"]["name"] = report["data"]["name"] = STEERING
    write(report, tmp_path)
    for name in ("report.json", "report.md", "report.html", "llm_comparator.json"):
        text = (tmp_path / name).read_text(encoding="utf-8")
        assert not set(text) & set("\x1b\x07\x9b\u202e"), name
        assert "[31mb" in text.replace("\\[", "["), name
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8")) == report


def test_the_report_is_strict_json_whatever_the_figures(tmp_path):
    """A perplexity beyond every float ended the run; NaN in report.json is read by no other language."""
    report = report_of(checkpoints=[seen(BASE_TEXTS, nats=(9e9, 9e9), step=10)])
    assert report["checkpoints"][0]["plain"]["perplexity"]["value"] == pytest.approx(statistics.WORST)
    report["variants"][1]["measures"]["tokens"]["value"] = float("nan")
    write(report, tmp_path)
    found = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert found["variants"][1]["measures"]["tokens"]["value"] is None
