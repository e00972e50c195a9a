"""Rows of a corpus as texts: their tags, and conversations, whose last answer is read after all before it."""

from __future__ import annotations

import json
from collections import Counter

from compare.analysis.token_text import Tokens
from compare.corpus.measured import Measured
from compare.corpus.texts import Corpus, Text
from compare.corpus.totals import Totals
from compare.report.rows import read_data
from compare.report.slices import counted
from tests.decoders import CHAT, byte_tokenizer

ASKS = [{"role": "user", "content": "再说一遍"}]
TURNS = [{"role": "system", "content": "请回答"}, {"role": "user", "content": "首任校长是谁？"},
         {"role": "assistant", "content": "宋小濂"}, {"role": "user", "content": "校训？"},
         {"role": "assistant", "content": "规格严格，功夫到家"}]
ONCE = CHAT.replace("{% for m in messages %}", "{% if messages | length > 2 %}{{ raise_exception('once') }}{% endif %}"
                    "{% for m in messages %}")


def texts_of(path, rows: list[dict], tokenizer, window: int = 256) -> tuple[list[Text], str]:
    """What a corpus of these rows gives, and its notes in one text."""
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    corpus = Corpus([path])
    return list(corpus.texts(Tokens(tokenizer), window)), " · ".join(map(str, corpus.notes()))


def test_tags_are_counted_as_the_report_counts_them(tmp_path, tokenizer):
    path, totals = tmp_path / "rows.jsonl", Totals()
    tags = ["fact", ["fact", "law", "fact"], 7, [], None, {"a": 1}, [" ", "law", 7]]
    texts, _ = texts_of(path, [{"input": f"q{number}", "output": "a", "tag": tag} for number, tag in enumerate(tags)],
                        tokenizer)
    assert [text.tags for text in texts] == [("fact",), ("fact", "law"), ("7",), (), (), (), ("law", "7")]
    assert Counter(tag for text in texts for tag in text.tags) == counted(read_data(path).rows, None)
    for text in texts:
        totals.add(Measured("", "", "", list(text.tags), [1], ["a"], [1.0], [-1.0], [-2.0]))
    found = totals.as_dict()
    assert {group["name"]: group["texts"] for group in found["tags"]} == {"fact": 2, "law": 2, "7": 2}
    assert found["whole"]["texts"] == 7 and "fact, law" in {text["tag"] for text in found["most_changed"]}


def test_the_last_answer_of_a_conversation_is_read_after_all_before_it(tmp_path, tokenizer):
    path = tmp_path / "rows.jsonl"
    [text], said = texts_of(path, [{"messages": TURNS}], tokenizer)
    whole = tokenizer.apply_chat_template(TURNS, tokenize=True)["input_ids"]
    assert [*text.prompt_ids, *text.ids] == whole and tokenizer.decode(text.ids) == "规格严格，功夫到家</s>"
    assert "1 earlier answers of conversations are passed over" in said
    none, said = texts_of(path, [{"messages": TURNS}], tokenizer, len(text.prompt_ids))
    assert not none and "1 rows whose question fills the window" in said and "earlier" not in said


def test_a_last_question_without_an_answer_is_left_out_and_counted(tmp_path, tokenizer):
    rows = [{"messages": turns} for turns in (TURNS, TURNS + ASKS, ASKS)]
    [one, other], said = texts_of(tmp_path / "rows.jsonl", rows, tokenizer)
    assert (one.prompt_ids, one.ids) == (other.prompt_ids, other.ids)
    assert "1 conversations end in a question without an answer" in said and "1 rows without an answer" in said


def test_conversations_are_passed_over_where_the_template_has_one_question_alone(tmp_path):
    rows = [{"messages": turns} for turns in (TURNS[1:], TURNS[1:3])]
    texts, said = texts_of(tmp_path / "rows.jsonl", rows, byte_tokenizer(ONCE))
    assert len(texts) == 1 and "1 conversations are passed over: the base's chat template" in said
