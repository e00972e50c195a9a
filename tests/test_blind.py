"""The Blind test tab: no name before the vote, the vote kept before the names, keys, and what goes wrong."""

from __future__ import annotations

import json
import re

import gradio as gr
import pytest
from one_tab import StandInEngine, loaded, opened
from playwright.sync_api import expect

from compare.page.blind import tab as blind
from compare.page.blind.pair import Answer, BlindPair
from compare.page.shared.templates import draw
from compare.report.rows import Row
from compare.server.votes import Tally, Votes
from lens.errors import BadQuestion

ATTACK = "<img src=x onerror=\"document.title='owned'\">"
ROW = Row(0, "校训是什么？", output="规格严格，功夫到家", keywords=("规格严格", "功夫到家"))
BASE, ADAPTED = Answer("高校高校", "length", 96, 24), Answer("规格严格，功夫到家。", "stop", 8)


def speaker() -> tuple:
    """An engine without a model, and its adapter: the two answers differ from the third question on."""
    engine = StandInEngine(loaded("lens"), loaded("step-100"))
    engine.says = lambda question, variant: (f"{'A' if variant.adapter and len(engine.asked) > 2 else 'B'} {ATTACK}",
                                             "stop")
    return engine, engine.adapters["lens"]


@pytest.fixture
def voting(tmp_path):
    return blind.Voting(*speaker(), Votes(tmp_path / "votes.sqlite3"))


def pair_of(adapted_left: bool) -> BlindPair:
    return BlindPair("id", ROW, BASE, ADAPTED, adapted_left)


@pytest.mark.parametrize("adapted_left", [True, False])
def test_an_open_pair_does_not_tell_the_sides_apart(adapted_left):
    html = pair_of(adapted_left).draw(None, "")
    told = html.replace(BASE.text, "").replace(ADAPTED.text, "")
    assert told == pair_of(not adapted_left).draw(None, "").replace(BASE.text, "").replace(ADAPTED.text, "")
    assert not re.search("adapted|base|适配|原模型|data-who", told)
    assert (html.index(ADAPTED.text) < html.index(BASE.text)) == adapted_left


@pytest.mark.parametrize("choice,adapted_left,verdict", [
    ("left", True, "better"), ("left", False, "worse"), ("right", True, "worse"), ("right", False, "better"),
    ("both", True, "both"), ("neither", False, "neither")])
def test_a_vote_is_kept_as_a_verdict_on_the_adapted_answer(voting, choice, adapted_left, verdict):
    html = voting.vote(pair_of(adapted_left), choice, "id")
    [kept] = voting.votes.all()
    assert (kept.verdict, kept.adapted_left, kept.question) == (verdict, adapted_left, ROW.input)
    assert (kept.base_text, kept.adapted_text) == (BASE.text, ADAPTED.text)
    assert html.count("data-who=") == 2 and ROW.output in html
    assert html.count('class="mark right"') == html.count('class="mark wrong"') == html.count('class="mark loop"') == 1


def test_a_second_vote_on_the_same_ballot_does_not_count(voting):
    voting.vote(pair_of(True), "left", "id"), voting.vote(pair_of(True), "right", "id")
    assert voting.votes.tally() == Tally(better=1)


@pytest.mark.parametrize("ballot,choice,identity", [
    (None, "left", "id"), (pair_of(True), "left", "another"), (pair_of(True), "best", "id"),
    (pair_of(True), None, "id"), (pair_of(True), ["left"], {})])
def test_what_is_no_vote_is_not_kept_and_tells_no_names(voting, ballot, choice, identity):
    assert "data-who" not in voting.vote(ballot, choice, identity)
    assert voting.votes.tally().votes == 0


def test_names_stay_hidden_when_the_vote_cannot_be_kept(tmp_path):
    (tmp_path / "file").write_text("")
    voting = blind.Voting(*speaker(), Votes(tmp_path / "file" / "votes.sqlite3"))
    html = voting.vote(pair_of(True), "left", "id")
    assert "LENS_VOTES" in html and 'data-state="open"' in html and "data-who" not in html


def test_pairs_that_are_the_same_are_passed_over(voting):
    *_, (html, ballot) = voting.deal()
    assert len(voting.engine.asked) == 3
    assert [v.adapter for v in voting.engine.asked[0][2]] == [None, "lens"]
    assert {ballot.base.text, ballot.adapted.text} == {f"A {ATTACK}", f"B {ATTACK}"}
    assert "<img" not in html and ballot.identity in html


def test_sides_are_drawn_by_lot(voting):
    sides = {list(voting.deal())[-1][1].adapted_left for _ in range(40)}
    assert sides == {True, False}


def test_a_visitor_who_leaves_stops_the_writing(voting):
    dealing = voting.deal()
    next(dealing), next(dealing)
    assert not voting.engine.cancelled.is_set()
    dealing.close()
    assert voting.engine.cancelled.is_set()


def test_a_refused_question_is_told(voting):
    voting.engine.error = BadQuestion("adapter-not-loaded", name="too <long>", loaded="none")
    *_, (html, ballot) = voting.deal()
    assert "too &lt;long&gt;" in html and ballot is None


def test_the_result_shows_wilsons_interval_and_all_counts():
    html = draw("blind/view", "tally", tally=Tally(better=7, worse=3, both=2, neither=1))
    assert "70%" in html and "40% … 89%" in html and "votes: 10" in html
    assert re.findall(r"<b>(\d+)</b>", html) == ["7", "2", "1", "3"]
    assert "<strong>–</strong>" in draw("blind/view", "tally", tally=Tally())


def test_exports_are_named(voting):
    voting.vote(pair_of(True), "left", "id")
    assert voting.export("csv").count("\n") == 2 and json.loads(voting.export("jsonl"))["verdict"] == "better"
    for choice, adapted_left in (("both", True), ("neither", True), ("left", False)):
        voting.vote(BlindPair(choice, ROW, BASE, ADAPTED, adapted_left), choice, choice)
    found = json.loads(voting.export("json"))
    assert [model["name"] for model in found["models"]] == ["lens", voting.engine.facts.base_name]
    assert sorted((one["score"], one["tags"][0]) for one in found["examples"]) == [
        (-1.5, "base better"), (0.0, "tie: both bad"), (0.0, "tie: both good"), (1.5, "adapted better")]
    assert all(one["output_text_a"] == ADAPTED.text and one["output_text_b"] == BASE.text for one in found["examples"])
    with pytest.raises(gr.Error, match="allowed: csv, jsonl"):
        voting.export("../x")


@pytest.fixture(scope="module")
def votes(tmp_path_factory) -> Votes:
    return Votes(tmp_path_factory.mktemp("votes") / "votes.sqlite3")


@pytest.fixture(scope="module")
def page(votes, browser):
    """The tab alone, behind another one, in headless Chromium."""
    with opened(browser, lambda: blind.build(speaker()[0], votes), '.ballot[data-state="open"]') as page:
        yield page


def state(page, name: str):
    expect(page.locator(f'.ballot[data-state="{name}"]')).to_be_visible(timeout=30_000)


def test_a_vote_by_key_is_kept_and_then_the_names_come(page, votes):
    assert page.locator("[data-who]").count() == 0
    page.keyboard.press("3")
    state(page, "voted")
    assert page.locator("[data-who]").count() == 2
    assert votes.tally() == Tally(both=1)
    page.keyboard.press("1")  # a second vote on the same ballot
    page.wait_for_timeout(500)
    assert votes.tally() == Tally(both=1)


def test_another_pair_by_key_and_a_vote_by_arrow(page, votes):
    page.keyboard.press("n")
    state(page, "open")
    assert "choices" in page.evaluate("document.activeElement.className")
    page.keyboard.press("ArrowDown")
    state(page, "voted")
    assert votes.tally() == Tally(both=1, neither=1)


def test_a_vote_by_button_goes_to_the_side_that_was_pressed(page, votes):
    page.locator("[data-another]").click()
    state(page, "open")
    left = page.locator(".side .text").first.text_content()
    page.locator('[data-vote="left"]').click()
    state(page, "voted")
    adapted = left.startswith("A")
    assert (votes.tally().better, votes.tally().worse) == (int(adapted), int(not adapted))
    expect(page.locator("[data-another]")).to_be_focused()


def test_keys_do_nothing_while_another_tab_is_in_front(page, votes):
    page.locator("[data-another]").click()
    state(page, "open")
    before = votes.tally()
    page.get_by_role("tab", name="first").click()
    page.keyboard.press("1")
    page.get_by_label("words").press("2")
    page.wait_for_timeout(300)
    page.get_by_role("tab", name="second").click()
    state(page, "open")
    assert votes.tally() == before


def test_the_votes_are_downloaded(page, votes):
    with page.expect_download(timeout=30_000) as download:
        page.locator('[data-export="csv"]').click()
    text = download.value.path().read_text(encoding="utf-8")
    assert text.startswith("\ufeff") and text.count('"lens"') == votes.tally().votes
    assert page.title() == "tab"


def test_nothing_is_wider_than_a_phone(page):
    assert page.evaluate("document.documentElement.scrollWidth") == 390
