"""What an engine refuses, in both languages: the sentences are the engine's own, so that no rewording parts them."""

from __future__ import annotations

import re
from html import escape

import pytest
import torch
from conftest import MOTTO

from compare.analysis.token_shift import score
from compare.engine.interface import Continuation, Sampling
from compare.engine.model_thread import GONE
from compare.engine.queue import TOO_LARGE
from compare.page.changed.tab import Explaining
from compare.page.shared.error_text import CHINESE, Told
from lens import chat as prompt
from lens.errors import BadQuestion, LensError, Unavailable

ASKED = {  # what a visitor can bring about → what the Chinese has to name
    "empty": (lambda engine: engine.compare(" "), ["还没有问题"]),
    "characters": (lambda engine: engine.compare("字" * (prompt.LONGEST + 1), "令"), [f"{prompt.LONGEST:,}", "字符"]),
    "tokens": (lambda engine: engine.compare("校训" * 900, sampling=Sampling(800)), ["800", "2048", "最大长度"]),
    "setting": (lambda engine: iter([Sampling(temperature=11)]), ["temperature 是 11", "0 to 10"]),
    "adapter": (lambda engine: iter([Explaining(engine).variants("别的")]), ["adapter 是 '别的'"]),
    "beginning": (lambda engine: iter([Continuation(4, prefix_ids=(7, 7, 7, 7))]), ["4 个 token"]),
    "end": (lambda engine: engine.compare(MOTTO, sampling=Continuation(9, prefix_ids=(engine.tokenizer.eos_token_id,))),
            ["但 2 除外"]),
}


@pytest.mark.parametrize("name", ASKED)
def test_a_refusal_is_told_in_both_languages_with_its_values(engine, name):
    """A Chinese page answered a question that was too long in English."""
    ask, named = ASKED[name]
    with pytest.raises(LensError) as caught:
        next(iter(ask(engine)))
    told = Told.of(caught.value)
    assert told.zh and all(value in told.zh for value in named), told
    assert told.en == str(caught.value) and escape(told.zh) in told.html() and escape(told.en) in told.html()
    assert told.text() == f"{told.zh} · {told.en}"


@pytest.mark.parametrize("sentence, named", [(TOO_LARGE, "内存不够"), (GONE, "重新启动")])
def test_what_befalls_the_engine_is_told_in_both(sentence, named):
    assert named in Told.of(Unavailable(sentence)).zh


def test_logits_that_are_no_numbers_are_told_in_both(engine, monkeypatch):
    monkeypatch.setattr(engine, "logits", lambda states: torch.full((len(states), 9), torch.nan))
    with pytest.raises(LensError) as caught:
        list(score(engine, [1, 2], torch.zeros(2, 4), torch.zeros(2, 4)))
    assert "NaN" in Told.of(caught.value).zh


def test_a_sentence_without_chinese_stays_as_it_is():
    told = Told.of(BadQuestion("what & {why} <b>"))
    assert told.zh == "" and told.html() == "what &amp; {why} &lt;b&gt;" and told.text() == told.en


def test_a_value_becomes_neither_markup_nor_a_field():
    told = Told.of(BadQuestion("adapter is '<b>{0}'; allowed: {x}"))
    assert told.zh == "adapter 是 '<b>{0}'；可用：{x}。" and "<b>" not in told.html()


def test_every_chinese_sentence_takes_all_the_values():
    assert all(chinese.count("{}") in (0, re.compile(english).groups) for english, chinese in CHINESE.items())
