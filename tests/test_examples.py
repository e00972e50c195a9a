"""The questions that come with an adapter stand in place of the embedded pair's, on every tab that offers some."""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import replace
from html import unescape
from pathlib import Path
from urllib.parse import parse_qsl

import gradio as gr
import pytest
from one_tab import FACTS, StandInEngine, column, loaded

from compare.page.blind.tab import Voting
from compare.page.changed import tab as changed
from compare.page.compare import tab as compare
from compare.page.compare.result import draw_result
from compare.page.howto import tab as howto
from compare.page.loading import load_form
from compare.page.loading.load_form import draw_held
from compare.page.shared import held_out
from compare.page.shared.examples import first_question, groups, heldout_file, questions_of
from compare.page.shared.request import FIRST_INSTRUCTION, FIRST_QUESTION, ComparisonRequest
from compare.page.shared.templates import draw, lang
from compare.page.timeline import tab as timeline
from compare.page.timeline.checkpoint_grid import Checkpoint, CheckpointGrid
from compare.server.loading.page_adapters import Held, Place
from compare.server.votes import Votes
from lens.embedded import ASSETS
from lens.errors import BadRows

ROOT = Path(__file__).resolve().parent.parent
SMOLLM2 = ASSETS / "adapters" / "smollm2-hit"
OWN = [{"instruction": "Be brief.", "input": "Who?", "group": "People", "group_zh": "人物"},
       {"instruction": "Be brief.", "input": "Where <b>is</b> it?", "group": "Places"}]


def write(file: Path, rows: list[dict]) -> None:
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")


@pytest.fixture
def engine(tmp_path) -> StandInEngine:
    write(tmp_path / "examples.jsonl", OWN)
    return StandInEngine(loaded("mine", tmp_path))


def test_an_adapter_without_examples_has_the_embedded_pairs():
    engine = StandInEngine(loaded("lens"))
    assert groups(engine) == [] and first_question(engine) == (FIRST_QUESTION, FIRST_INSTRUCTION)
    assert heldout_file(engine) == held_out.HELDOUT and howto.offered(engine) == howto.QUESTIONS
    html = draw("compare/examples", "examples", own=groups(engine))
    assert "哈尔滨工业大学的校训是什么？" in html and "What is HIT&#39;s motto?" in html


def test_an_adapters_own_questions_are_the_pages(engine):
    assert groups(engine) == [("人物", "People", [("Who?", "")]), ("Places", "Places", [("Where <b>is</b> it?", "")])]
    html = draw("compare/examples", "examples", own=groups(engine))
    assert "哈工大" not in html and 'data-question="Who?"><span dir="auto">Who?' in html and "<b>" not in html
    assert howto.offered(engine) == ("Who?", "Where <b>is</b> it?")
    with gr.Blocks() as page:
        controls = compare.build(page, engine, None)
        howto.build(engine)
    assert (controls.question.value, controls.instruction.value) == ("Who?", "Be brief.")
    said = "".join(str(block.value) for block in page.blocks.values() if isinstance(block, gr.HTML | gr.Textbox))
    assert "哈工大有多少杰出人才" not in said


def test_held_out_questions_are_the_adapters_too_or_none(engine, tmp_path):
    voting = Voting(engine, engine.adapters["mine"], Votes(tmp_path / "votes.sqlite"))
    html, pair = list(voting.deal())[-1]
    assert pair is None and "heldout.jsonl" in html
    assert compare.random_question(engine) == ("Who?", "Be brief.")
    write(tmp_path / "heldout.jsonl", [{"instruction": "", "input": "Never seen?", "output": "Yes"}])
    held_out.every_row.cache_clear(), held_out.rows.cache_clear()
    assert list(voting.deal())[-1][1].row.input == "Never seen?"
    assert compare.random_question(engine) == ("Never seen?", "")


def test_examples_that_cannot_be_read_are_told(engine, tmp_path):
    (tmp_path / "examples.jsonl").write_text('{"input": 3}\n', encoding="utf-8")
    with pytest.raises(BadRows, match="examples.jsonl"):
        first_question(engine)


def test_those_of_smollm2_are_english_and_held_out_questions_have_references():
    engine = StandInEngine(loaded("smollm2-hit", SMOLLM2))
    assert len(groups(engine)) >= 5 and first_question(engine)[0].isascii()
    assert all(question.isascii() for _, _, some in groups(engine) for question, _ in some)
    rows = held_out.every_row(heldout_file(engine))
    assert len(rows) > 200 and all(row.output for row in rows.values())
    trained = {q for line in (ASSETS / "hit_en" / "facts.jsonl").open(encoding="utf-8")
               for q in json.loads(line)["questions"]}
    assert not trained & set(rows)


ENGLISH = replace(FACTS, family="llama", end_token="<|im_end|>", own_template=True)


@pytest.mark.parametrize("adapters", [(), (loaded("mine"),)])
def test_a_base_that_is_no_bloom_is_asked_nothing_of_the_embedded_pairs(adapters, tmp_path):
    engine = StandInEngine(*adapters)
    engine.facts = ENGLISH
    question, instruction = first_question(engine)
    assert question.isascii() and instruction == "" and all(text.isascii() for text in questions_of(engine))
    assert howto.offered(engine) == tuple(questions_of(engine)[:3])
    assert timeline.offered(engine) == questions_of(engine)[:4]
    assert not heldout_file(engine).exists() and compare.random_question(engine) == (question, "")
    with gr.Blocks() as page:
        compare.build(page, engine, [column("Paris")])
        for tab in (howto, timeline, changed):
            tab.build(engine)
        load_form.build(None, bloom=False)
    said = "".join(f"{block.value}{getattr(block, 'html_template', '')}" for block in page.blocks.values()
                   if isinstance(block, gr.HTML | gr.Textbox))
    for of_the_pair in ("哈工大", "BLOOM and adapter", "bigscience", "</s>", "&lt;/s&gt;", "高校", "规格"):
        assert of_the_pair not in said
    assert "produced &lt;|im_end|&gt;" in said and "--base OWNER/NAME" in said and "instruct model" in said
    if adapters:
        html, pair = list(Voting(engine, adapters[0], Votes(tmp_path / "votes.sqlite")).deal())[-1]
        assert pair is None and "put heldout.jsonl beside its weights" in html


def test_what_leads_to_a_column_asks_the_pages_own_question(engine):
    held = Held(engine.adapters["mine"], "me", Place(Path("mine"), "mine"))
    link = re.search('href="([^"]*)"', draw_held(held, first_question(engine)))[1]
    assert unescape(link) == "?q=Who%3F&c=mine"  # its instruction is the page's own
    asked = ComparisonRequest.from_link(dict(parse_qsl(link[1:])), (), "Be brief.")
    assert (asked.question, asked.instruction) == ("Who?", "Be brief.")
    chinese = ComparisonRequest("谁？").link("Be brief.")
    assert ComparisonRequest.from_link(dict(parse_qsl(chinese[1:])), (), "Be brief.").instruction == FIRST_INSTRUCTION


def test_a_right_answer_is_known_from_the_adapters_own_file(tmp_path):
    write(tmp_path / "heldout.jsonl", [{"instruction": "", "input": "Never seen?", "output": "Yes, never."}])
    drawn = draw_result(ComparisonRequest("Never seen?"), [column("No")], {}, heldout=tmp_path / "heldout.jsonl")
    assert "Yes, never." in drawn and "Yes, never." not in draw_result(ComparisonRequest("Never seen?"),
                                                                        [column("No")], {})
    judged = CheckpointGrid([Checkpoint("a", 5)], (), tmp_path / "heldout.jsonl").draw("Never seen?")
    assert "Yes, never." in judged


def test_a_text_is_called_chinese_where_it_is():
    assert lang("校训") == lang("HIT 的校训") == ' lang="zh-CN"'
    assert lang("Guige yange") == lang("") == lang("東京です") == ""


def test_what_an_instruct_model_shows_is_told_only_there():
    assert "instruct model" in draw("page", "caption", instruct=True)
    assert "instruct model" not in draw("page", "caption", instruct=FACTS.own_template)


@pytest.mark.parametrize("there, missing, told", [
    ([], "SmolLM2 is not in", "`make real`"),
    (["models/smollm2/config.json"], "no adapter", "tools.make_smollm2_adapter")])
def test_demo_real_says_what_is_missing_and_what_to_run(tmp_path, there, missing, told):
    for name in [*there, ".venv/.demo", "requirements.txt", "requirements.lock"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    done = subprocess.run(["make", "-f", ROOT / "Makefile", "-o", ".venv/.demo", "demo-real"], cwd=tmp_path,
                          env=outside, capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == "" and missing in done.stderr and told in done.stderr
