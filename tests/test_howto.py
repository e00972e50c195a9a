"""The How it works tab: its figures are model_sizes.py's, here and in the browser; text stays text."""

from __future__ import annotations

import re

import gradio as gr
import pytest
from one_tab import StandInEngine, loaded, opened
from playwright.sync_api import expect

from compare.page.howto import tab as howto
from compare.page.howto.lora_drawing import draw_explorer
from compare.page.shared.model_sizes import EMBEDDED, LINEAR_LAYERS, SIZES, Shape, human, memory, share

ATTACK = "<img src=x onerror=\"document.title='owned'\">"


def speaker() -> StandInEngine:
    """An engine without a model: strength 0 repeats itself, the others name their strength and the question."""
    return StandInEngine(loaded("lens"), loaded("other"), says=lambda question, v: (
        (f"{v.strength:g}: {question}", "stop") if v.adapter else ("高校" * 10, "length")))  # too short for a loop


def turning(engine: StandInEngine):
    return howto.answering(engine, next(iter(engine.adapters.values())))


def test_the_table_marks_the_loaded_size_and_holds_the_1b1_row():
    table = howto.draw_sizes(EMBEDDED)
    row = next(r for r in table.split("<tr") if "bloom-1b1" in r)
    for figure in ("1,065,314,304", "1,179,648", "0.11%", "17 GB", "2.15 GB"):
        assert figure in row
    assert table.count("class=here") == 1 and all(s.name in table for s in SIZES)
    assert "measured" in table and "113 GB" in table


def test_a_loaded_model_of_another_size_is_a_row_with_its_name_escaped():
    table = howto.draw_sizes(Shape(ATTACK, 64, 3, 1000))
    assert "<img" not in table and "&lt;img" in table


def test_the_explorer_opens_at_the_loaded_adapter():
    html = draw_explorer(EMBEDDED, EMBEDDED.parameters, 8, list(LINEAR_LAYERS))
    assert ">196,608<" in html and html.count("checked>") == 5  # four layers and the step
    assert ">49,152<" in draw_explorer(EMBEDDED, EMBEDDED.parameters, 8, ["query_key_value"])


def test_the_strengths_are_of_base_and_one_adapter_and_escape_what_they_say():
    engine = speaker()
    *_, html = turning(engine)(ATTACK)
    assert html.count("data-i=") == len(howto.STRENGTHS) == 9
    assert "<img" not in html and "1.75: &lt;img" in html
    assert html.count('data-why="loop"') == 1 and html.count('data-why="stop"') == 8


def test_the_pages_own_questions_are_answered_once():
    engine = speaker()
    turn = turning(engine)
    first, again = list(turn(howto.QUESTIONS[0])), list(turn(howto.QUESTIONS[0]))
    list(turn("别的")), list(turn("别的"))
    assert len(first) == 2 and again == first[-1:]
    assert [one[0] for one in engine.asked] == [howto.QUESTIONS[0], "别的", "别的"]


def test_a_bad_question_is_told_in_the_page():
    from lens.errors import BadQuestion

    engine = speaker()
    engine.error = BadQuestion("question-empty")
    with pytest.raises(gr.Error, match="the question is empty"):
        list(turning(engine)(" "))


def test_without_an_adapter_the_tab_says_so():
    engine = StandInEngine()
    with gr.Blocks() as blocks:
        howto.build(engine)
    told = [b.value for b in blocks.blocks.values() if isinstance(b, gr.HTML)]
    assert any("No adapter is loaded" in t for t in told)
    assert not any(isinstance(b, gr.Textbox) for b in blocks.blocks.values())


@pytest.fixture(scope="module")
def page(browser):
    """The tab alone, behind another one, in headless Chromium."""
    with opened(browser, lambda: howto.build(speaker()), "#lens-rank") as page:
        yield page


@pytest.mark.parametrize("r,modules", [(1, ("dense",)), (64, tuple(LINEAR_LAYERS)), (8, ("query_key_value",)), (8, ())])
def test_the_browser_counts_as_python_does(page, r, modules):
    for box in page.locator("input[name=module]").all():
        box.set_checked(box.evaluate("e => e.parentElement.querySelector('code').textContent") in modules)
    page.locator("#lens-rank").fill(str(r))
    trainable = EMBEDDED.lora(r, modules)
    names = ("trainable", "share", "file", "train", "r")
    shown = {n: page.locator(f"[data-n={n}]").first.text_content() for n in names}
    assert shown == {"trainable": f"{trainable:,}", "share": f"{share(trainable, EMBEDDED.parameters):.2%}",
                     "file": human(4 * trainable), "train": human(memory(EMBEDDED.parameters, trainable).train_lora),
                     "r": str(r)}


def test_a_and_b_grow_with_the_rank(page):
    def thick():
        sides = (("a", "height"), ("b", "width"))
        return [float(page.locator(f"rect[data-n={name}]").get_attribute(side)) for name, side in sides]

    page.locator("#lens-rank").fill("8")
    before = thick()
    page.locator("#lens-rank").press("End")
    assert thick() == [8 * t for t in before]


def test_b_is_zero_until_trained(page):
    expect(page.locator("figcaption .step-0")).to_be_visible()
    page.get_by_label(re.compile("After training")).check()
    expect(page.locator("figcaption .step-0")).to_be_hidden()
    expect(page.locator("figcaption .step-n")).to_be_visible()


def test_the_answer_turns_when_first_seen_and_then_by_slider_rung_and_question(page):
    now = page.locator(".now")
    page.locator("#howto-ladder").scroll_into_view_if_needed()
    expect(now).to_have_text(f"1: {howto.QUESTIONS[0]}", timeout=30_000)
    page.locator("#lens-strength").press("Home")
    expect(now).to_have_text("高校" * 10)
    assert page.locator("#lens-strength").get_attribute("aria-valuetext") == "0: " + "高校" * 10
    page.locator("[data-i='8']").click()
    expect(now).to_have_text(f"2: {howto.QUESTIONS[0]}")
    page.get_by_role("button", name=howto.QUESTIONS[1], exact=True).click()
    expect(now).to_have_text(f"2: {howto.QUESTIONS[1]}", timeout=30_000)  # the chosen strength is kept
    page.locator("#howto-question textarea").fill(ATTACK)
    page.locator("#howto-question textarea").press("Enter")
    expect(page.locator(".asked")).to_have_text(ATTACK, timeout=30_000)
    assert page.title() == "tab"


def test_nothing_is_wider_than_a_phone(page):
    assert page.evaluate("document.documentElement.scrollWidth") == 390
