"""Rows as people have them: each layout is recognised and said, and nothing of a row is lost without a word."""

from __future__ import annotations

import json
import shlex

import datasets
import pyarrow as pa
import pytest

from compare.questions import read_questions
from compare.report.rows import read_data
from lens.errors import LensError
from lens.rows.row import Row
from lens.rows.row_options import RowOptions
from lens.rows.rows import read_rows
from tests.training import encode_row
from train.data.encoded import IGNORED

SYSTEM, ASKED, TOLD, AGAIN, SAID = "只答校史", "校训？", "规格严格", "首任校长？", "宋小濂"
TALK = [("user", ASKED), ("assistant", TOLD), ("user", AGAIN), ("assistant", SAID)]
MESSAGES = [{"role": role, "content": text} for role, text in TALK]
SHAREGPT = [{"from": {"user": "human", "assistant": "gpt"}[role], "value": text} for role, text in TALK]
EARLIER = ((ASKED, TOLD),)


def write(path, values):
    path.write_text("\n".join(json.dumps(v, ensure_ascii=False) for v in values), encoding="utf-8")
    return path


def read(tmp_path, *values, **options):
    return read_rows([write(tmp_path / "rows.jsonl", values)], **options)


def refused(tmp_path, *values, **options) -> str:
    with pytest.raises(LensError) as caught:
        read(tmp_path, *values, **options)
    assert caught.value.zh != str(caught.value)
    return str(caught.value)


def told(rows) -> str:
    return " | ".join(map(str, rows.notes()))


LAYOUTS = [
    ({"instruction": "请答", "input": ASKED, "output": TOLD}, "instruction/input/output", ("请答", ASKED, TOLD)),
    ({"instruction": ASKED, "input": "", "output": TOLD}, "instruction/input/output", ("", ASKED, TOLD)),
    ({"instruction": ASKED, "output": TOLD}, "instruction/output", ("", ASKED, TOLD)),
    ({"question": ASKED, "answer": TOLD}, "question/answer", ("", ASKED, TOLD)),
    ({"prompt": ASKED, "response": TOLD}, "prompt/response", ("", ASKED, TOLD)),
    ({"prompt": ASKED, "completion": TOLD}, "prompt/completion", ("", ASKED, TOLD)),
    ({"prompt": MESSAGES[:1], "completion": MESSAGES[1:2]}, "prompt/completion", ("", ASKED, TOLD)),
    ({"prompt": [{"role": "system", "content": SYSTEM}, *MESSAGES[:3]], "completion": MESSAGES[3:]},
     "prompt/completion", (SYSTEM, AGAIN, SAID, EARLIER)),
    ({"messages": [{"role": "system", "content": SYSTEM}, *MESSAGES]}, "messages", (SYSTEM, AGAIN, SAID, EARLIER)),
    ({"messages": [{"role": "user", "content": [{"type": "text", "text": ASKED}]}, MESSAGES[1]]}, "messages",
     ("", ASKED, TOLD)),
    ({"conversations": SHAREGPT, "system": SYSTEM}, "ShareGPT", (SYSTEM, AGAIN, SAID, EARLIER)),
    ({"instruction": "译成英文", "input": AGAIN, "output": SAID, "system": SYSTEM, "history": [[ASKED, TOLD]]},
     "Alpaca with history and system", (SYSTEM, f"译成英文\n{AGAIN}", SAID, EARLIER)),
    ({"问题": ASKED, "答案": TOLD}, "question/answer", ("", ASKED, TOLD)),
    ({"Instruction": "请答", " INPUT": ASKED, "out_put:": TOLD}, "instruction/input/output", ("请答", ASKED, TOLD)),
]


@pytest.mark.parametrize("value, name, row", LAYOUTS, ids=[str(i) for i in range(len(LAYOUTS))])
def test_a_layout_is_recognised_by_its_keys_and_said(tmp_path, value, name, row):
    rows = read(tmp_path, value)
    assert rows == [Row(*row[:3], "", *row[3:])]
    assert f"1 rows read as {name}" in told(rows)


def test_a_table_column_of_turns_is_read_as_a_list_of_them(tmp_path):
    value = {"conversations": {"from": ["human", "gpt"], "value": [ASKED, TOLD]}}
    assert read(tmp_path, value) == [Row("", ASKED, TOLD, "")]


BAD_TURNS = [
    ([], "holds no answer"), (MESSAGES[1:2], "turn 1 is the assistant's, expected the user's"),
    ([*MESSAGES[:1], *MESSAGES[:2]], "turn 2 is the user's, expected the assistant's"),
    ([{"role": "tool", "content": "7"}], "turn 1 has the role 'tool'"),
    ([MESSAGES[0], {"role": "assistant", "content": " "}], "turn 2 (assistant) is empty"),
    ([MESSAGES[0], {"role": "assistant", "content": None, "tool_calls": [1]}], "'tool_calls'"),
    ([ASKED], "turn 1 is str"), ("text", "is str, expected a list of turns"),
]


@pytest.mark.parametrize("turns, said", BAD_TURNS, ids=[said for _, said in BAD_TURNS])
def test_turns_that_cannot_be_taught_are_named(tmp_path, turns, said):
    assert said in refused(tmp_path, {"messages": turns})


def test_a_last_question_without_an_answer_is_left_out_and_told(tmp_path):
    rows = read(tmp_path, {"messages": MESSAGES[:3]})
    assert rows == [Row("", ASKED, TOLD, "")]
    assert "1 conversations end in a question without an answer" in told(rows)


def test_every_answer_of_a_conversation_is_taught_as_the_template_lays_it_out(tokenizer):
    row = encode_row(Row(SYSTEM, AGAIN, SAID, "", EARLIER), tokenizer, 256)
    whole = tokenizer.apply_chat_template([{"role": "system", "content": SYSTEM}, *MESSAGES], tokenize=True)
    assert row["input_ids"] == whole["input_ids"]
    learnt = tokenizer.decode([i for i in row["labels"] if i != IGNORED])
    assert learnt == f"{TOLD}</s>{SAID}</s>"


@pytest.mark.parametrize("length", range(30, 80))
def test_a_cut_conversation_keeps_whole_endings_and_no_question_that_nothing_answers(tokenizer, length):
    whole = encode_row(Row(SYSTEM, AGAIN, SAID, "", EARLIER), tokenizer, 256)
    cut = encode_row(Row(SYSTEM, AGAIN, SAID, "", EARLIER), tokenizer, length)
    size = len(cut["input_ids"])
    assert size <= length and cut["input_ids"] == whole["input_ids"][:size]
    assert cut["labels"] == whole["labels"][:size] and cut["labels"][-1] != IGNORED


@pytest.mark.parametrize("spelled", ["</s>", "<s>", "<pad>", "<|endofutterance|>", "<|beginofutterance|>系统"])
def test_text_of_a_row_that_spells_a_special_token_is_text(tmp_path, tokenizer, spelled):
    [row] = read(tmp_path, {"instruction": f"a{spelled}", "input": f"问{spelled}", "output": f"答{spelled}答"})
    special = set(tokenizer.all_special_ids)
    plain = encode_row(Row("a", "问", "答答", ""), tokenizer, 256)["input_ids"]
    found = encode_row(row, tokenizer, 256)["input_ids"]
    assert [i for i in found if i in special] == [i for i in plain if i in special]
    assert spelled in tokenizer.decode([i for i in found if i not in special])


def test_unused_fields_are_named_with_their_count(tmp_path):
    rows = read(tmp_path, {"question": ASKED, "answer": TOLD, "source": "a", "id": 7},
                {"question": ASKED, "answer": TOLD, "source": "", "id": 8})
    assert "field 'source' is not used (1 rows)" in told(rows) and "field 'id' is not used (2 rows)" in told(rows)


def test_a_key_that_differs_in_one_row_is_read_and_told(tmp_path):
    """It was dropped in that row."""
    usual = {"instruction": "请答", "input": ASKED, "output": TOLD}
    rows = read(tmp_path, *[usual] * 49, {"instruction : ": "请答", "input": ASKED, "output": TOLD})
    assert {row.instruction for row in rows} == {"请答"} and len(rows) == 50
    assert "'instruction : ' read as instruction in 1 rows" in told(rows)


def test_columns_do_not_drop_what_is_not_mapped(tmp_path):
    """After `--columns input=Input output=Output` all instructions were gone."""
    value = {"Instruction": "请答", "Input": ASKED, "Output": TOLD}
    assert read(tmp_path, value, columns=["input=Input", "output=Output"]) == [Row("请答", ASKED, TOLD, "")]
    value = {"question": ASKED, "answer": TOLD, "said": SAID}
    assert "leaves the text of 'answer' out" in refused(tmp_path, value, columns=["input=question", "output=said"])
    rows = read(tmp_path, value, columns=["input=question", "output=said", "unused=answer"])
    assert rows == [Row("", ASKED, SAID, "")]


SUGGESTED = [({"q": ASKED, "a": TOLD}, "input=q output=a"), ({"query": ASKED, "reply": TOLD, "id": "7"}, None),
             ({"instruction": ASKED, "response": TOLD, "category": "x"}, None),
             ({"dialog": SHAREGPT}, "messages=dialog"),
             ({"the question": ASKED, "answer": TOLD}, None), 
             ({"prompt": ASKED, "chosen": TOLD, "rejected": "x"}, None)]


@pytest.mark.parametrize("value, columns", SUGGESTED, ids=[" ".join(value) for value, _ in SUGGESTED])
def test_a_suggested_command_works(tmp_path, value, columns):
    said = refused(tmp_path, value, value)
    options = shlex.split(said.split("; this reads them: --columns ")[1])
    assert columns is None or options == columns.split()
    assert len(read(tmp_path, value, value, columns=options)) == 2


def test_nothing_is_suggested_that_does_not_read_the_first_rows(tmp_path):
    said = refused(tmp_path, {"q": ASKED, "a": TOLD}, {"q": ASKED, "a": 7})
    assert "--columns" not in said and "--skip-bad-rows" not in said
    assert "--skip-bad-rows" not in refused(tmp_path, {"input": 7, "output": ""}, {"input": 8, "output": ""})


def test_plain_text_and_preference_pairs_are_explained(tmp_path):
    assert "train.pretrain" in refused(tmp_path, {"text": "规格严格"})
    said = refused(tmp_path, {"prompt": ASKED, "chosen": TOLD, "rejected": SAID})
    assert "preference pairs" in said and "DPO" in said


def test_two_keys_for_one_field_are_refused(tmp_path):
    said = refused(tmp_path, {"Input": ASKED, "INPUT": AGAIN, "output": TOLD})
    assert "'Input' and 'INPUT' both read as input" in said


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "gb18030"])
def test_tables_by_separator_and_encoding(tmp_path, separator, encoding):
    path = tmp_path / "rows.csv"
    lines = ["question,answer", f"{ASKED},{TOLD}", f"{AGAIN},{SAID}"]
    path.write_bytes("\r\n".join(lines).replace(",", separator).encode(encoding))
    rows = read_rows([path])
    assert rows == [Row("", ASKED, TOLD, ""), Row("", AGAIN, SAID, "")]
    assert ("read as GB18030" in told(rows)) is (encoding == "gb18030")
    assert ("between cells" in told(rows)) is (separator != ",")
    assert [row.where.split()[-1] for row in rows] == ["2", "3"]


def test_what_excel_writes_before_and_beside_a_table(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text(f"sep=;\nquestion;answer;;\n{ASKED};{TOLD};;\n", encoding="utf-8")
    [row] = read_rows([path])
    assert (row.input, row.where.split()[-1]) == (ASKED, "3")


def test_an_encoding_that_was_asked_for_is_used(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(json.dumps({"input": "校訓？", "output": "規格嚴格"}, ensure_ascii=False).encode("big5"))
    with pytest.raises(LensError, match="--encoding"):
        read_rows([path])
    assert read_rows([path], encoding="big5") == [Row("", "校訓？", "規格嚴格", "")]
    with pytest.raises(LensError, match="'martian' is not known"):
        read_rows([path], encoding="martian")


NOT_CHINESE = [("utf-8 with an overlong byte", b'{"input": "\xc0\xaf", "output": "b"}', "0xc0 at character 12"),
               ("utf-8 that was cut", '{"input": "校训'.encode()[:-1] + b'", "output": "b"}', "0xe8 at character 13"),
               ("euc-kr", '{"input": "교훈은 무엇입니까?", "output": "규격"}'.encode("euc-kr"), "0xb1 at character 12"),
               ("big5", '{"input": "學校的校訓是什麼", "output": "規格嚴格"}'.encode("big5"), "at character 12"),
               ("thai", '{"input": "ตัวเลือกสี", "output": "หยุดบันทึก"}'.encode("tis-620"), "at character 12"),
               ("thai of one word", '{"input": "q", "output": "หยุดบันทึก"}'.encode("tis-620"), "at character 27"),
               ("persian", '{"input": "افزودن ستون در راست", "output": "a"}'.encode("cp1256"), "at character 12"),
               ("russian", '{"input": "Микрофон не найден", "output": "a"}'.encode("koi8-r"), "at character 12"),
               ("shift-jis", '{"input": "校訓は何ですか", "output": "b"}'.encode("shift-jis"), "at character 12"),
               ("euc-jp", '{"input": "録音を停止", "output": "描画を開始"}'.encode("euc-jp"), "at character 13"),
               ("private use in gb18030", b'{"input": "\xaa\xa1\xaa\xa2\xaa\xa3", "output": "b"}', "at character 12"),
               ("latin-1", '{"input": "Größe für Übung", "output": "à"}'.encode("latin-1"), "0xf6 at character 14")]


@pytest.mark.parametrize("content, byte", [case[1:] for case in NOT_CHINESE], ids=[case[0] for case in NOT_CHINESE])
def test_what_is_not_plainly_chinese_is_refused_with_its_byte_and_not_taken_for_gb18030(tmp_path, content, byte):
    """b"\xc0\xaf" was read as 蜡, and the Thai for “stop recording” as 寺卮貉狗帧."""
    sound = b'{"input": "q", "output": "a"}\n' * 3
    (tmp_path / "rows.jsonl").write_bytes(sound + content)
    with pytest.raises(LensError, match=f"line 4 is not UTF-8 text .byte.*{byte}.*--encoding") as caught:
        read_rows([tmp_path / "rows.jsonl"])
    assert caught.value.code == "row-undecodable"


def test_chinese_in_gb18030_is_known_from_a_few_words_and_a_piece_of_it_is_said(tmp_path):
    (tmp_path / "rows.jsonl").write_bytes('{"input": "校训是什么？", "output": "规格严格"}'.encode("gb18030"))
    rows = read_rows([tmp_path / "rows.jsonl"])
    assert rows == [Row("", "校训是什么？", "规格严格", "")]
    assert ("was read as GB18030, such as '校训是什么？规格严格': of 10 characters 7 are among the commonest in "
            "Chinese; --encoding names another") in told(rows)


@pytest.mark.parametrize("question, answer", [("怎么报到？", "请先看通知"), ("我今天有点难过", "说给我听听"),
                                              ("大学在哪里？", "在哈尔滨。"), ("丁雪梅是谁", "曾任哈工大副校长。")])
def test_a_single_short_row_of_chinese_in_gbk_is_known(tmp_path, question, answer):
    (tmp_path / "rows.jsonl").write_bytes(f'{{"input": "{question}", "output": "{answer}"}}'.encode("gbk"))
    assert [(row.input, row.output) for row in read_rows([tmp_path / "rows.jsonl"])] == [(question, answer)]


def test_what_else_stands_in_a_turn_is_named(tmp_path):
    """A turn's `weight: 0` was trained on without a word."""
    rows = read(tmp_path, {"messages": [MESSAGES[0], {**MESSAGES[1], "weight": 0, "name": None}]})
    assert "field 'messages[].weight' is not used (1 rows)" in told(rows) and "name" not in told(rows)


def test_lines_that_end_in_commas_and_tables_without_names_are_told_for_what_they_are(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"input": "a", "output": "b"},\n{"input": "c", "output": "d"},\n')
    with pytest.raises(LensError, match="line 1 is not JSON .a comma ends it"):
        read_rows([tmp_path / "rows.jsonl"])
    (tmp_path / "rows.csv").write_text(f"{ASKED},{TOLD}\n{AGAIN},{SAID}\n", encoding="utf-8")
    with pytest.raises(LensError, match="; the first line must name the columns, such as question,answer"):
        read_rows([tmp_path / "rows.csv"])


def test_arrow_files_and_saved_datasets(tmp_path):
    table = pa.table({"question": [ASKED, AGAIN], "answer": [TOLD, SAID], "id": [1, 2]})
    for name, new in (("file.arrow", pa.ipc.new_file), ("stream.arrow", pa.ipc.new_stream)):
        with pa.OSFile(str(tmp_path / name), "wb") as sink, new(sink, table.schema) as writer:
            writer.write_table(table)
    saved = datasets.Dataset(table)
    saved.save_to_disk(tmp_path / "saved")
    datasets.DatasetDict(train=saved, test=saved).save_to_disk(tmp_path / "splits")
    datasets.DatasetDict(one=saved, two=saved).save_to_disk(tmp_path / "others")
    for name in ("file.arrow", "stream.arrow", "saved", "splits"):
        rows = read_rows([tmp_path / name])
        assert rows == [Row("", ASKED, TOLD, ""), Row("", AGAIN, SAID, "")], name
        assert "field 'id' is not used (2 rows)" in told(rows)
    with pytest.raises(LensError, match="splits one, two and none called train"):
        read_rows([tmp_path / "others"])


def test_questions_need_no_answer_where_none_is_asked_for(tmp_path):
    values = [{"input": ASKED}, {"question": ASKED, "keywords": [TOLD]}, {"prompt": ASKED}, {"messages": MESSAGES[:1]},
              {"instruction": "请答", "input": ASKED, "output": ""}]
    rows = read(tmp_path, *values, answers=False, keep=True)
    assert [row.input for row in rows] == [ASKED] * 5 and rows[1].rest == {"keywords": [TOLD]}


def test_rows_are_the_same_by_content_whatever_file_they_came_in(tmp_path):
    one = read(tmp_path, {"question": ASKED, "answer": TOLD})
    two = read(tmp_path, {"input": ASKED, "output": TOLD, "id": 1})
    assert one.content == two.content != read(tmp_path, {"input": AGAIN, "output": TOLD}).content


@pytest.mark.parametrize("value", [{"question": ASKED, "answer": TOLD}, {"prompt": ASKED}, {"instruction": ASKED},
                                   {"messages": MESSAGES[:2]}, {"conversations": SHAREGPT}, {"Input": ASKED}])
def test_a_file_of_questions_is_read_as_training_reads_it(tmp_path, value):
    lines = write(tmp_path / "questions.jsonl", [value])
    (tmp_path / "questions.json").write_text(f"[{lines.read_text(encoding='utf-8')}]", encoding="utf-8")
    for name in ("questions.jsonl", "questions.json"):
        assert [question.text for question in read_questions(tmp_path / name)] == [ASKED]


def test_questions_are_read_by_the_options_that_training_has_and_what_was_guessed_is_said(tmp_path):
    """A .jsonl of questions had to be UTF-8 with the names that we know."""
    path = tmp_path / "questions.jsonl"
    path.write_bytes('{"input": "校训是什么？", "id": 7}\n首任校长是谁？\n'.encode("gb18030"))
    found = read_questions(path)
    assert [question.text for question in found] == ["校训是什么？", "首任校长是谁？"]
    said = " | ".join(map(str, found.notes))
    assert "was read as GB18030, such as '校训是什么？首任" in said and "field 'id' is not used (1 rows)" in said
    path.write_bytes('{"ask": "교훈?"}\n{"ask": 7}\n{"ask": "교장?", "ask": "?"}'.encode("euc-kr"))
    for how, refused in ((RowOptions(), "line 1 is not UTF-8"), (RowOptions(encoding="euc-kr"), "line 1: no format"),
                         (RowOptions(["input=ask"], "euc-kr"), "line 2: field 'input' is int")):
        with pytest.raises(LensError, match=refused):
            read_questions(path, how=how)
    found = read_questions(path, "답", RowOptions(["input=ask"], "euc-kr", True))
    assert [(question.text, question.instruction) for question in found] == [("교훈?", "답")]
    assert "2 bad rows skipped" in " | ".join(map(str, found.notes))


@pytest.mark.parametrize("text, good", [
    ("Who?\n{broken", ["Who?"]), ('{broken\n\n{"input": "Who?"}', ["Who?"]), ('{broken\n{"n": 1}\n', []),
    (b"bad \xe9\nWho?", ["Who?"]), ('{"input": ["Who?"]}\nWhere?', ["Where?"])])
def test_skipping_bad_questions_is_advised_where_it_leaves_some(tmp_path, text, good):
    path = tmp_path / "questions.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(LensError, match="questions.txt line [12]") as caught:
        read_questions(path)
    assert ("--skip-bad-rows goes on without such rows" in str(caught.value)) == bool(good)
    if good:
        assert [question.text for question in read_questions(path, how=RowOptions(skip_bad_rows=True))] == good


def test_a_table_of_questions_is_asked_and_reported_on(tmp_path):
    path = tmp_path / "questions.csv"
    path.write_bytes(f"问题;答案\n{ASKED};{TOLD}\n{AGAIN};{SAID}\n".encode("gb18030"))
    assert [question.text for question in read_questions(path)] == [ASKED, AGAIN]
    assert [(row.input, row.output) for row in read_data(path).rows] == [(ASKED, TOLD), (AGAIN, SAID)]
    assert len(read_data(path, limit=1).rows) == 1
