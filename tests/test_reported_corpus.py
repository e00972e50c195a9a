"""The Report tab over differences.json: what a run over a corpus wrote is drawn, and only as text."""

from __future__ import annotations

import json
import re

import gradio as gr
import pytest
from one_tab import StandInEngine, loaded
from test_differences import measured

from compare.corpus.totals import Totals
from compare.page.report import tab as reported
from compare.page.report.reported_corpus import NAME, TOKENS, read_corpus
from lens.embedded import ASSETS

ATTACK = "<img src=x onerror=alert(1)>"


def found() -> dict:
    """differences.json of a small corpus: all is moved, one text is forgotten."""
    totals = Totals()
    for number in range(8):
        totals.add(measured(number, "law" if number % 2 else ATTACK, 0.01 if number % 2 else 2.0,
                            0.0 if number % 2 else -1.5))
    return {"base": {"name": "base"}, "adapter": {"name": ATTACK, "sha256": "1" * 64}, "data": ["rows.jsonl"],
            **totals.as_dict()}


def told(folder) -> str:
    adapter = loaded("lens")
    adapter.files.sha256 = "1" * 64
    with gr.Blocks() as blocks:
        reported.build(StandInEngine(adapter), folder / "report.json")
    return "".join(str(block.value) for block in blocks.blocks.values() if isinstance(block, gr.HTML))


def test_sentences_groups_tokens_and_passages_are_drawn(tmp_path):
    (tmp_path / "differences.json").write_text(json.dumps(found()), encoding="utf-8")
    html = told(tmp_path)
    assert "it changes 16.7% of 24 tokens by more than 0.5 nats" in html and "it forgot" in html
    assert "8 texts, 24 tokens" in html and html.count('scope="row"') == 3  # a source and two tags
    assert "Changed most" in html and "Forgotten most" in html and "<img" not in html and "another adapter" not in html
    assert html.count('data-kl="4"') == 3 + 3 and html.count("<li><small>") == 3 + 3 + 3
    assert "-5%" in html and "became less likely" in html and "became likelier" not in html


def test_a_token_is_drawn_with_the_places_where_it_changed_most(tmp_path):
    """A file from before there were several has one, and is drawn with it."""
    new = found()
    [fallen] = new["fallen"]
    fallen |= {"contexts": [{"text": f"{ATTACK} place {number}", "change": -0.1 * number} for number in (3, 2, 1)],
               "context": "the one place", "most": -0.4, "token": "校"}
    (tmp_path / "differences.json").write_text(json.dumps(new), encoding="utf-8")
    html = told(tmp_path)
    assert all(f"place {number} <small>-{number}0%</small>" in html for number in (1, 2, 3))
    assert "the one place" not in html and "<img" not in html and '<span lang="zh-CN">校</span>' in html
    del fallen["contexts"]
    (tmp_path / "differences.json").write_text(json.dumps(new), encoding="utf-8")
    html = told(tmp_path)
    assert "the one place <small>-40%</small>" in html and "place 1" not in html


def test_texts_and_tokens_are_called_chinese_where_they_are(tmp_path):
    new = found()
    for name, word in (("most_changed", "哈工大"), ("least_changed", "plain English"), ("forgotten", "ひらがな")):
        new[name] = [{**new[name][0], "pieces": [word], "kls": [0.0]}]
    new["fallen"][0] |= {"token": "the", "contexts": [{"text": "of the", "change": -0.1}]}
    (tmp_path / "differences.json").write_text(json.dumps(new), encoding="utf-8")
    html = told(tmp_path)
    assert re.findall(r'<p( lang="zh-CN")? dir="auto"><span data-kl="0" title="KL 0.00">([^<]*)', html) == [
        (' lang="zh-CN"', "哈工大"), ("", "ひらがな"), ("", "plain English")]
    assert "<span>the</span>" in html and '<p dir="auto">of the ' in html


def test_the_shipped_file_is_drawn():
    sha, drawn = read_corpus(ASSETS / "report" / NAME)
    assert len(sha) == 64 and drawn.count('<span class="chip">') == 2 * TOKENS


def test_a_run_of_another_adapter_says_so(tmp_path):
    (tmp_path / "differences.json").write_text(
        json.dumps({**found(), "adapter": {"name": "other", "sha256": "9" * 64}}), encoding="utf-8")
    assert "another adapter (sha256 999999999999)" in told(tmp_path)


def test_without_a_run_the_tab_gives_the_command(tmp_path):
    assert "python -m compare.differences --data" in told(tmp_path)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"adapter": {"sha256": 1}, "most_changed": 7}'])
def test_a_broken_file_is_told(tmp_path, content):
    (tmp_path / "differences.json").write_text(content)
    assert "differences.json" in told(tmp_path) and "cannot be read" in told(tmp_path)
