"""An answer under What changed is turned at a token and goes on beside the one it left."""

from __future__ import annotations

import html
import re
from types import SimpleNamespace

import pytest
from conftest import MOTTO
from markupsafe import escape
from one_tab import WAIT, opened
from playwright.sync_api import expect

from compare.analysis.token_shift import Candidate, Position, View
from compare.engine.answers import compare
from compare.engine.interface import Continuation, Question, Sampling
from compare.page.changed import tab as changed
from compare.page.changed.token_ribbon import record, ribbon
from compare.page.changed.turned_answer import AFTER, LENGTH, Turn, TurnedAnswers
from compare.page.shared.request import FIRST_INSTRUCTION, FIRST_QUESTION
from compare.page.shared.templates import template
from compare.server.running_answers import Run
from lens.errors import LensError

ATTACK = "<img src=x onerror=\"document.title='owned'\">"
SENT = {"question": MOTTO, "instruction": "", "adapter": "lens", "ids": [300, 301], "kept": 1, "by": "base"}


def last(stream):
    *_, found = stream
    return found


def tokens(drawn: str) -> list[str]:
    """The texts of a ribbon's chips."""
    return [html.unescape(text) for text in re.findall(r"<button [^>]*data-i=[^>]*>(.*?)</button>", drawn, re.S)]


@pytest.fixture(scope="module")
def answers(engine):
    """The base's and the adapted answer."""
    return last(compare(engine, Question(MOTTO), sampling=Sampling(LENGTH)))


@pytest.mark.parametrize("change, said", [
    ({"question": 7}, "question is 7"), ({"adapter": None}, "adapter is None"),
    ({"ids": "12"}, "ids are to be a list"), ({"ids": [1.5], "kept": 0}, "list of"), ({"ids": [True]}, "list of"),
    ({"ids": [300] * 500, "kept": 500}, "at most 448"), ({"kept": 0}, "kept is 0 of 2"), ({"kept": 3}, "kept is 3"),
    ({"ids": [], "kept": -1}, "kept is -1"), ({"by": "nobody"}, "base or adapted"),
    ({"by": ["base"]}, "base or adapted")])
def test_what_a_browser_should_not_send_is_refused(change, said):
    assert Turn.read(SENT).ids == (300, 301)
    with pytest.raises(LensError, match=said):
        Turn.read({**SENT, **change})
    with pytest.raises(LensError):
        Turn.read(None)


@pytest.mark.parametrize("change, said", [({"adapter": "nobody"}, "allowed: lens"),
                                          ({"ids": [2], "kept": 0}, "token id 2"), ({"question": " "}, "empty")])
def test_what_the_engine_cannot_do_is_told_in_a_sentence(engine, change, said):
    event = SimpleNamespace(_data={**SENT, **change})
    assert said in last(TurnedAnswers(engine).page(event, SimpleNamespace(session_hash="a")))


def test_an_answer_turned_goes_another_way_and_one_that_is_not_goes_on_as_it_did(engine, answers):
    base, adapted = answers
    forced = next(i for i in base.token_ids if i not in adapted.token_ids)
    turn = Turn(MOTTO, "", "lens", (adapted.token_ids[0], forced), 1, "adapted")
    drawn = list(TurnedAnswers(engine).stream(turn, Run()))
    assert 'aria-busy="true"' in drawn[0] and 'aria-busy="false"' in drawn[-1]
    assert template("changed/token_ribbon").TURNED in drawn[-1]
    assert "".join(tokens(drawn[-1])).replace("</s>", "") != adapted.text
    same = Turn(MOTTO, "", "lens", tuple(adapted.token_ids[:3]), 3, "adapted")
    assert "".join(tokens(last(TurnedAnswers(engine).stream(same, Run())))) == adapted.text + "</s>"
    other = Turn(MOTTO, "", "lens", (), 0, "base")
    assert "".join(tokens(last(TurnedAnswers(engine).stream(other, Run())))).rstrip("\ufffd") == base.text


def test_a_superseded_answer_draws_no_more(engine):
    drawn = TurnedAnswers(engine).stream(Turn.read(SENT), run := Run())
    next(drawn), next(drawn)
    run.superseded = True
    assert list(drawn) == []


def test_no_token_of_a_turned_answer_becomes_markup():
    view = View(-1.0, 1, 0.1, (Candidate(9, ATTACK, 0.5),))
    for turn in (Turn("?", "", "", (9, 9), 1, "base"), Turn("?", "", "", (9,), 1, "adapted")):
        drawn = turn.growing([ATTACK] * 3)
        positions = [Position(9, ATTACK, view, view, 0.0, 1)] * 3
        drawn += turn.draw("finished", ATTACK, reason="stop", r=ribbon(positions, 2))
        assert not {"img", "script"} & set(re.findall(r"<(\w+)", drawn)) and escape(ATTACK) in drawn


@pytest.fixture(scope="module")
def page(browser, engine):
    """The tab on the embedded pair, at a phone's width."""
    with opened(browser, lambda: changed.build(engine), ".ribbon button") as page:
        page.mouse.move(0, 0)
        expect(page.locator("[aria-busy=true]")).to_have_count(0, timeout=WAIT)
        yield page


def chosen(page, side: str, index: int):
    """The closer look at one token, held by a click."""
    page.locator(f"article[data-side={side}] .ribbon [data-i='{index}']").first.click()
    expect(page.locator(".look[data-pinned]")).to_be_visible()
    return page.locator(".look")


def turned(page) -> list[str]:
    """The tokens of the turned answer, once it is whole."""
    expect(page.locator(".crossing article[aria-busy=false] .ribbon")).to_be_visible(timeout=WAIT)
    return page.locator(".crossing .ribbon button").all_text_contents()


def answered(engine, by: int, sampling: Sampling):
    """The tab's own question under one variant: the finished column."""
    question = Question(FIRST_QUESTION, FIRST_INSTRUCTION)
    return last(compare(engine, question, engine.variants()[by:by + 1], sampling))[0]


def expected(engine, ids: list[int], by: int) -> str:
    """The engine's own answer that begins with these ids."""
    return answered(engine, by, Continuation(max(LENGTH, len(ids) + AFTER), prefix_ids=tuple(ids))).text


def own_ids(engine, by: int) -> list[int]:
    return answered(engine, by, Sampling(128)).token_ids


def test_a_click_forces_a_token_and_the_answer_streams_beside_its_original(page, engine):
    before = page.locator("article[data-side=adapted] .ribbon button").all_text_contents()
    word = chosen(page, "adapted", 1).locator(".model[data-side=base] .force:not([data-chosen] *)").first
    forced = int(word.get_attribute("data-id"))
    word.click()
    joined = "".join(turned(page)).replace("</s>", "").rstrip("\ufffd")
    ids = own_ids(engine, 1)[:1] + [forced]
    assert joined == expected(engine, ids, 0) != "".join(before).replace("</s>", "")
    assert page.locator("article[data-side=adapted] .ribbon button").all_text_contents() == before
    expect(page.locator(".crossing article")).to_have_attribute("data-by", "base")
    expect(page.locator("article[data-side=adapted] [data-turn]")).to_have_attribute("data-i", "1")
    assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_the_other_model_goes_on_from_a_token(page, engine):
    chosen(page, "base", 2).locator(".onwards[data-by]").click()
    expect(page.locator(".crossing[data-of=base]")).to_be_visible(timeout=WAIT)
    expect(page.locator(".crossing[data-of=adapted]")).to_be_hidden()
    joined = "".join(turned(page)).replace("</s>", "").rstrip("\ufffd")
    assert joined == expected(engine, own_ids(engine, 0)[:3], 1)


def test_a_turned_answer_is_turned_again_by_key_and_closed(page):
    tokens_before = turned(page)
    chip = page.locator(".crossing .ribbon [data-i='0']")
    chip.focus()
    page.locator(".look .model[data-side=base] .force:not([data-chosen] *)").first.press("Enter")
    expect(page.locator(".crossing .ribbon button").first).not_to_have_text(tokens_before[0], timeout=WAIT)
    assert turned(page) != tokens_before
    page.locator("[data-close]").click()
    expect(page.locator(".crossing:visible")).to_have_count(0)
    expect(page.locator("[data-turn]")).to_have_count(0)


def test_the_mouse_reaches_the_closer_look_over_other_tokens(page):
    look = chosen(page, "adapted", 0)
    word = look.locator("strong").text_content()
    page.locator("article[data-side=adapted] .ribbon [data-i='3']").hover()
    expect(look.locator("strong")).to_have_text(word)
    page.keyboard.press("Escape")
    page.locator("article[data-side=adapted] .ribbon [data-i='2']").hover()
    expect(look.locator("strong")).not_to_have_text(word)


def test_an_end_is_no_word_to_force():
    """After it nothing comes; token_ribbon.js knows it by the fourth value of a candidate."""
    view = View(-1.0, 1, 0.1, (Candidate(2, "</s>", 0.5), Candidate(9, "字", 0.2)))
    top = record(Position(9, "字", view, view, 0.0, 1), 2)["base"]["top"]
    assert [(c[3], c[4]) for c in top] == [(1, 2), (0, 9)]
