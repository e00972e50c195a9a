"""JSON that every parser reads, and text that steers no terminal."""

from __future__ import annotations

import json

import pytest

from lens.strict_json import dumps, loads, parse_object
from lens.terminal_text import one_line, visible

STEERING = "a\x1b[31mb\x07c\x7fd\x9be\u202ef\u2066g\u2028h"


@pytest.mark.parametrize("value, text", [
    (float("nan"), "null"), ([float("inf"), -float("inf"), 1.5], "[null, null, 1.5]"),
    ({"a": ({"b": float("nan")}, "哈")}, '{"a": [{"b": null}, "哈"]}')])
def test_a_number_that_is_none_is_written_as_null(value, text):
    assert dumps(value) == text


def test_characters_that_steer_are_escaped_and_read_back():
    text = dumps({"text": STEERING + "😀哈"})
    assert not set(text) & set("\x1b\x07\x7f\x9b\u202e\u2066\u2028") and "😀哈" in text
    assert json.loads(text)["text"] == STEERING + "😀哈"
    assert dumps("\ud800") == '"?"' and dumps("😀", ascii=True).isascii()


@pytest.mark.parametrize("text, said", [("NaN", "NaN is no number"), ("[-Infinity]", "-Infinity is no number"),
                                        ("1e999", "1e999 is no number"), ('{"a": 1, "a": 2}', "'a' stands twice")])
def test_reading_is_strict(text, said):
    with pytest.raises(ValueError, match=said):
        loads(text)


def test_an_object_is_asked_for():
    assert parse_object(b'{"a": 1.5}') == {"a": 1.5}
    with pytest.raises(ValueError, match="list"):
        parse_object(b"[]")


def test_text_for_a_terminal():
    assert visible("哈 😀\r\nb\tc\rd") == "哈 😀\nb\tc\\x0dd"
    assert visible(STEERING) == "a\\x1b[31mb\\x07c\\x7fd\\x9be\\u202ef\\u2066g\\u2028h"
    assert one_line("a\nb\tc\r") == "a\\nb\\tc\\r" and one_line(None) == "None"
