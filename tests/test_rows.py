"""Rows, the chat template, labels, and the sentences that bad files get."""

from __future__ import annotations

import pytest

from compare.prompt import Prompt
from train.config import BadInput
from train.rows import IGNORED, Row, encode_row, messages, read_rows

ROW = Row("请回答下面的问题", "哈工大的校训是什么？", "规格严格，功夫到家", "here")
EMPTY = Row("", "哈工大的校训是什么？", "规格严格，功夫到家", "here")


@pytest.mark.parametrize("row", [ROW, EMPTY])
def test_template_is_the_contract(tokenizer, row):
    text = tokenizer.apply_chat_template(messages(row), add_generation_prompt=True, tokenize=False)
    assert text == (f"<|beginofutterance|>系统\n{row.instruction}\n<|endofutterance|>\n"
                    f"<|beginofutterance|>用户\n{row.input}\n<|endofutterance|>\n<|beginofutterance|>智能助手\n")


@pytest.mark.parametrize("row", [ROW, EMPTY])
def test_training_and_comparing_send_the_same_prompt(tokenizer, row):
    prompt = tokenizer.apply_chat_template(messages(row), add_generation_prompt=True, tokenize=True)["input_ids"]
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
    (b'{"instruction": "", "output": "a"}', "'input' is missing"),
    (b'[1, 2]', "found list"),
    (b'{"input": ["a"], "output": "b"}', "'input' is list"),
    (b'{"input": 7, "output": "b"}', "'input' is int"),
    (b'{"input": "a", "output": " "}', "'output' is empty"),
    (b'{"input": "", "output": "b"}', "both empty"),
    (b'{"input": "a</s>", "output": "b"}', "special token '</s>'"),
    ("哈".encode("utf-16"), "not UTF-8"),
    (b'{"input": "' + b"a" * 1_100_000 + b'"}', "at most 1,000,000"),
    (b"[" * 5000, "is not JSON"),
]


@pytest.mark.parametrize("content, said", BAD, ids=[said for _, said in BAD])
def test_bad_rows_are_named(tmp_path, tokenizer, content, said):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    with pytest.raises(BadInput, match="rows.jsonl") as caught:
        read_rows([path], tokenizer.all_special_tokens)
    assert said in str(caught.value)


def test_a_missing_file_and_a_directory_are_named(tmp_path):
    with pytest.raises(BadInput, match="does not exist"):
        read_rows([tmp_path / "none.jsonl"])
    with pytest.raises(BadInput, match="is a directory"):
        read_rows([tmp_path])
