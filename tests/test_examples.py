"""The questions that come with an adapter stand in place of the embedded pair's, on every tab that offers some."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import gradio as gr
import pytest
from one_tab import FACTS, StandInEngine, loaded

from compare.page.blind.tab import Voting
from compare.page.compare import tab as compare
from compare.page.howto import tab as howto
from compare.page.shared import held_out
from compare.page.shared.examples import first_question, groups, heldout_file
from compare.page.shared.request import FIRST_INSTRUCTION, FIRST_QUESTION
from compare.page.shared.templates import draw
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
    assert len(rows) > 300 and all(row.output for row in rows.values())
    trained = {q for line in (ASSETS / "hit_en" / "facts.jsonl").open(encoding="utf-8")
               for q in json.loads(line)["questions"]}
    assert not trained & set(rows)


def test_what_an_instruct_model_shows_is_told_only_there():
    assert "instruct model" in draw("page", "caption", instruct=True)
    assert "instruct model" not in draw("page", "caption", instruct=FACTS.own_template)


@pytest.mark.parametrize("there, missing, told", [
    ([], "SmolLM2 is not in", "`make real`"), (["models/smollm2/source.json"], "no adapter", "git checkout")])
def test_demo_real_says_what_is_missing_and_what_to_run(tmp_path, there, missing, told):
    for name in [*there, ".venv/.demo", "requirements.txt", "requirements.lock"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    done = subprocess.run(["make", "-f", ROOT / "Makefile", "-o", ".venv/.demo", "demo-real"], cwd=tmp_path,
                          env=outside, capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == "" and missing in done.stderr and told in done.stderr
