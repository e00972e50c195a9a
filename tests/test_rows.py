"""Rows, the chat template, labels, and the sentences that bad files get."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from lens.chat import Prompt
from lens.chat_template import messages
from lens.errors import LensError
from lens.rows.formats import is_refusal
from lens.rows.rows import Row, Rows, read_rows
from tests.training import encode_row
from train.data.encoded import IGNORED
from train.data.encoding import encode_rows

ROW = Row("请回答下面的问题", "哈工大的校训是什么？", "规格严格，功夫到家", "here")
EMPTY = Row("", "哈工大的校训是什么？", "规格严格，功夫到家", "here")


def asked(row: Row) -> list[dict[str, str]]:
    return messages(row.instruction, row.input)


@pytest.mark.parametrize("row", [ROW, EMPTY])
def test_template_is_the_contract(tokenizer, row):
    text = tokenizer.apply_chat_template(asked(row), add_generation_prompt=True, tokenize=False)
    assert text == (f"<|beginofutterance|>系统\n{row.instruction}\n<|endofutterance|>\n"
                    f"<|beginofutterance|>用户\n{row.input}\n<|endofutterance|>\n<|beginofutterance|>智能助手\n")


@pytest.mark.parametrize("row", [ROW, EMPTY])
def test_training_and_comparing_send_the_same_prompt(tokenizer, row):
    prompt = tokenizer.apply_chat_template(asked(row), add_generation_prompt=True, tokenize=True)["input_ids"]
    assert Prompt(tokenizer).encode(row.input, row.instruction) == prompt
    assert encode_row(row, tokenizer, 256)["input_ids"][:len(prompt)] == prompt


def test_labels_cover_the_answer_and_its_end(tokenizer):
    encoded = encode_row(ROW, tokenizer, 256)
    taught = [i for i in encoded["labels"] if i != IGNORED]
    assert tokenizer.decode(taught) == "规格严格，功夫到家</s>"
    assert taught[-1] == tokenizer.eos_token_id != tokenizer.pad_token_id
    assert len(encoded["labels"]) == len(encoded["input_ids"])


def test_seed_recipe_teaches_the_whole_text_and_never_the_end(tokenizer):
    encoded = encode_row(ROW, tokenizer, 256, ending="<|endofutterance|>\n", whole_text=True)
    assert encoded["labels"] == encoded["input_ids"]
    assert tokenizer.eos_token_id not in encoded["labels"]


def test_a_cut_answer_is_not_taught_as_finished(tokenizer):
    whole = encode_row(ROW, tokenizer, 256)
    cut = encode_row(ROW, tokenizer, len(whole["input_ids"]) - 2)
    assert tokenizer.eos_token_id not in cut["labels"]
    assert cut["labels"] == whole["labels"][:-2]


@pytest.mark.parametrize("spelled", ["<|endofutterance|>", "</s>", "<pad>", "<|beginofutterance|>系统"])
def test_no_question_becomes_structure(tokenizer, spelled):
    prompt = Prompt(tokenizer)
    special = set(tokenizer.all_special_ids)
    plain = [i for i in prompt.encode("问") if i in special]
    ids = prompt.encode(f"问{spelled}\ue000", f"\ue001{spelled}")
    assert [i for i in ids if i in special] == plain
    assert spelled in tokenizer.decode(ids)


BAD = [
    (b"", "no rows"),
    (b'{"instruction": "", "input": "a", "output": "b"}\n{"input": ', "line 2 is not JSON"),
    (b'{"instruction": "", "input": "a"}', "'output' is missing"),
    (b'{"instruction": "", "output": "a"}', "both empty"),
    (b'{"kind": "", "output": "a"}', "'input' is missing"),
    (b'[1, 2]', "found list"),
    (b'{"input": ["a"], "output": "b"}', "'input' is list"),
    (b'{"input": 7, "output": "b"}', "'input' is int"),
    (b'{"input": "a", "output": " "}', "'output' is empty"),
    (b'{"input": "", "output": "b"}', "both empty"),
    (b'{"input": "<|im_start|>user\\na", "output": "b"}', "a chat template has laid it out already"),
    ("哈".encode("utf-16"), "is not JSON (Expecting value; read as UTF-16)"),
    ("哈".encode("utf-16-le") + b"\0", "UTF-16 without a byte order mark"),
    (b'{"input": "' + b"a" * 1_100_000 + b'"}', "at most 1,000,000"),
    (b"[" * 5000, "is not JSON"),
]


@pytest.mark.parametrize("content, said", BAD, ids=[said for _, said in BAD])
def test_bad_rows_are_named(tmp_path, tokenizer, content, said):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    with pytest.raises(LensError, match="rows.jsonl") as caught:
        read_rows([path])
    assert said in str(caught.value)


def test_a_missing_file_and_a_directory_are_named(tmp_path):
    with pytest.raises(LensError, match="does not exist"):
        read_rows([tmp_path / "none.jsonl"])
    with pytest.raises(LensError, match="is a directory"):
        read_rows([tmp_path])


GOOD = {"instruction": "", "input": "哈工大的校训是什么？", "output": "规格严格，功夫到家"}


def write_lines(path, values):
    path.write_text("\n".join(v if isinstance(v, str) else json.dumps(v, ensure_ascii=False) for v in values),
                    encoding="utf-8")
    return path


def test_bad_rows_are_passed_over_and_counted_when_asked(tmp_path):
    path = write_lines(tmp_path / "rows.jsonl", [
        GOOD, '{"input": ', {**GOOD, "output": ""}, GOOD, {**GOOD, "input": 7}, "[" * 5000,
        {**GOOD, "output": "[INST] a"}, '{"input": "a", "input": "b", "output": "c"}',
        '{"input": "a", "output": "\\ud83d"}', {**GOOD, "input": "几？"}])
    with pytest.raises(LensError, match="line 2 .*--skip-bad-rows"):
        read_rows([path])
    rows = read_rows([path], skip_bad_rows=True)
    assert [row.where.split()[-1] for row in rows] == ["1", "4", "10"]
    said = " | ".join(map(str, rows.skipped))
    assert len(rows.skipped) == 7
    for problem in ("line 2 is not JSON", "line 3: field 'output' is empty", "line 5: field 'input' is int",
                    "line 6 is not JSON (nested too deeply)", "line 7: field 'output' begins with '[INST]'",
                    "line 8: key 'input' stands twice", "line 9: field 'output' holds half a character"):
        assert problem in said


def test_when_every_row_is_bad_the_first_fault_is_told(tmp_path):
    path = write_lines(tmp_path / "rows.jsonl", ["[1]", "[2]"])
    with pytest.raises(LensError, match="no rows in .*2 skipped, the first: .*line 1: found list"):
        read_rows([path], skip_bad_rows=True)


def test_rows_that_say_the_same_are_counted(tmp_path):
    path = write_lines(tmp_path / "rows.jsonl", [GOOD, GOOD, {**GOOD, "extra": 1}, {**GOOD, "instruction": "请答"}])
    rows = read_rows([path])
    assert len(rows) == 4 and rows.duplicates == 2


@pytest.mark.parametrize("value", [0, False, [], {}])
@pytest.mark.parametrize("field", ["instruction", "input", "output"])
def test_an_empty_value_that_is_no_text_is_not_taken_for_empty_text(tmp_path, field, value):
    path = write_lines(tmp_path / "rows.jsonl", [{**GOOD, field: value}])
    with pytest.raises(LensError, match=f"field '{field}' is {type(value).__name__}, expected text"):
        read_rows([path])


def test_other_columns_by_name(tmp_path):
    path = write_lines(tmp_path / "rows.jsonl", [{"sys": "请答", "asks": "问", "says": "答", "input": "不是我"}])
    columns = ["instruction=sys", "input=asks", "output=says"]
    [row] = read_rows([path], columns=[*columns, "unused=input"])
    assert (row.instruction, row.input, row.output) == ("请答", "问", "答")
    with pytest.raises(LensError, match="leaves the text of 'input' out; .* by unused=input"):
        read_rows([path], columns=columns)
    with pytest.raises(LensError, match="'output' is missing, found 'sys', 'asks', 'says', 'input'$"):
        read_rows([path])


@pytest.mark.parametrize("columns, said", [
    (["question"], "'question': expected FIELD=COLUMN"), (["query=a"], "'query=a'"), (["input="], "'input='"),
    (["input=a", "input=b"], "input twice ('a', 'b')"), (["input=a", "output=a"], "'a' twice, as input and as output"),
    (["input=a", "unused=a"], "'a' twice, as unused and as input"),
    (["messages=a", "input=b"], "messages and input")])
def test_bad_columns_are_named(rows_file, columns, said):
    with pytest.raises(LensError) as caught:
        read_rows([rows_file], columns=columns)
    assert said in str(caught.value)


def test_hc3_is_recognised(tmp_path):
    def asked(question, *answers):
        return {"question": question, "human_answers": ["人答"], "chatgpt_answers": list(answers), "source": "baike"}

    path = write_lines(tmp_path / "all.jsonl", [
        asked("什么是光年？", "光年是长度单位。", "光在一年里走过的距离。"), asked("无人回答"),
        asked("我是谁？", "很抱歉，我无法回答这个问题。"),
        asked("天气？", "作为一个AI语言模型，我没有实时信息。", "作为一个整体，今天晴。")])
    rows = read_rows([path])
    assert [(row.instruction, row.input, row.output) for row in rows] == [
        ("", "什么是光年？", "光年是长度单位。"), ("", "什么是光年？", "光在一年里走过的距离。"),
        ("", "天气？", "作为一个整体，今天晴。")]
    assert rows.refusals == 3
    write_lines(path, [{"question": "a", "human_answers": [], "chatgpt_answers": "b"}])
    with pytest.raises(LensError, match="line 1: field 'chatgpt_answers' is str, expected a list"):
        read_rows([path])


@pytest.mark.parametrize("answer, refuses", [
    ("对不起，我不明白您的问题。", True), ("我是一个人工智能助手，不能上网。", True), ("我无法确定。", True),
    ("非常抱歉，", True), ("作为一款大型语言模型，", True), ("作为一个城市，哈尔滨……", False),
    ("抱歉的英文是 sorry。", True), ("我们无法直接看见黑洞。", False), ("规格严格，功夫到家", False)])
def test_refusals_are_known_by_how_they_begin(answer, refuses):
    assert is_refusal(answer) is refuses


@pytest.mark.parametrize("missing", [1, 2])
def test_a_cut_row_keeps_nothing_of_an_ending_of_several_tokens(tokenizer, missing):
    ending = "<|endofutterance|>\n"
    end = tokenizer.encode(ending, add_special_tokens=False)
    whole = encode_row(ROW, tokenizer, 256, ending)
    cut = encode_row(ROW, tokenizer, len(whole["input_ids"]) - missing, ending)
    assert len(end) == 2 and whole["labels"][-2:] == end
    assert cut["input_ids"] == whole["input_ids"][:-2]


def test_a_prompt_that_leaves_no_room_for_its_answer_is_refused_or_skipped(tokenizer):
    long = Row("", "哈工大的校训是什么？" * 20, "规格严格", "rows.jsonl line 2")
    with pytest.raises(LensError, match="rows.jsonl line 2: the prompt alone is .* --max-length 64"):
        encode_row(long, tokenizer, 64)
    assert len(encode_row(long, tokenizer, 64, whole_text=True)["labels"]) == 64
    rows = Rows([ROW, long, EMPTY])
    with pytest.raises(LensError, match="line 2: .*--skip-bad-rows"):
        encode_rows(rows, tokenizer, 64)
    encoded = encode_rows(rows, tokenizer, 64, skipped=rows.skipped)
    assert list(rows) == [ROW, EMPTY] and len(encoded) == 2
    assert len(rows.skipped) == 1 and "line 2" in str(rows.skipped[0])
    with pytest.raises(LensError, match="no row is left.*line 2"):
        encode_rows([long], tokenizer, 64, skipped=[])


def test_encoded_rows_are_each_row_encoded(tokenizer):
    rows = [ROW, Row("", "短", "答" * 200, "here"), EMPTY]
    encoded = encode_rows(rows, tokenizer, 64)
    assert list(encoded) == [encode_row(row, tokenizer, 64) for row in rows]
    assert encoded[-1] == encoded[2] and encoded.lengths[1] > 64 == len(encoded[1]["labels"])
    with pytest.raises(IndexError):
        encoded[3]


def test_more_bad_rows_than_anyone_means_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("lens.rows.rows.MOST_SKIPPED", 10)
    with pytest.raises(LensError, match="more than 10 bad rows, the first: .*line 1"):
        read_rows([write_lines(tmp_path / "rows.jsonl", ["7"] * 20)], skip_bad_rows=True)


def test_reading_text_imports_nothing_heavy():
    code = "import sys, lens.rows.rows; print(*{'datasets', 'pyarrow', 'torch', 'transformers'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"
