"""The real page in headless Chromium: asking, stopping, columns, links, language, errors, no other host."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.open_page import WAIT, visiting

pytest_plugins = ["tests.open_page"]

MOTTO, MOTTO_IS = "哈尔滨工业大学的校训是什么？", re.compile("规格严格，功夫到家")


@pytest.fixture
def page(visit):
    return visit()


@pytest.fixture(scope="module")
def first_sight(browser, address):
    """The page as it opened: for tests that ask it nothing."""
    with visiting(browser, address) as open_page:
        yield open_page()


def ask(page, question):
    page.locator("#question textarea").fill(question)
    page.locator("#question textarea").press("Enter")


def state(page, side: str, *states: str):
    """Wait until a column is in one of the states."""
    expect(page.locator(f"#{side}")).to_have_attribute("data-state", re.compile("|".join(states)), timeout=WAIT)


def finished(page):
    for side in ("base", "adapted"):
        state(page, side, "stop", "length")


def says(page, side: str, text):
    """Wait until a column's answer is, or matches, `text`."""
    expect(page.locator(f"#{side} .lens-answer")).to_have_attribute("data-text", text, timeout=WAIT)


def answers(page):
    return [page.locator(f"#{side} .lens-answer").get_attribute("data-text") for side in ("base", "adapted")]


def type_number(page, name: str, value: str):
    """Type into a number's field until the slider beside it follows: before Gradio is ready it takes no notice."""
    field, slider = (page.locator(f"#{name} input[type={kind}]") for kind in ("number", "range"))
    for _ in range(20):
        field.fill(value)
        field.press("Tab")
        page.wait_for_timeout(300)  # Gradio tells the server of a number a moment after it was typed
        if field.input_value() == value and all(s.input_value() == value for s in slider.all()):
            return
    pytest.fail(f"{name} did not take {value}")


def set_number(page, name: str, value: str):
    """A setting in the fold."""
    field = page.locator(f"#{name} input[type=number]")
    for _ in range(20):  # a fold that is pressed before Gradio is ready stays shut
        if field.is_visible():
            break
        page.locator("#settings > button").click()
        page.wait_for_timeout(300)
    type_number(page, name, value)


def test_the_original_question_is_answered_when_the_page_opens(first_sight):
    assert first_sight.locator("#question textarea").input_value() == "哈工大有多少杰出人才"
    base, adapted = answers(first_sight)
    assert base and adapted and base != adapted
    expect(first_sight.locator("#result")).to_contain_text("启动时预先算好")
    expect(first_sight.locator("h1")).to_contain_text("一份模型，两种回答")
    for part in ("base", "lens", "sha256", "cpu", "float32", "gradio"):
        expect(first_sight.locator("#loaded")).to_contain_text(part)


def test_both_columns_fill_and_the_switch_makes_them_equal(page):
    ask(page, MOTTO)
    says(page, "adapted", MOTTO_IS)
    finished(page)
    base, adapted = answers(page)
    assert base != adapted
    expect(page.locator("#base-status")).to_contain_text("token/秒")
    page.locator("#switch input").click()
    says(page, "adapted", base)
    finished(page)
    expect(page.locator(".lens-verdict")).to_contain_text("适配器关着")


def test_an_example_is_answered_on_click_and_a_held_out_one_shows_its_reference(page):
    page.get_by_role("button", name=MOTTO).click()
    says(page, "adapted", MOTTO_IS)
    page.locator("#lucky").click()
    expect(page.locator(".lens-reference")).to_be_visible(timeout=WAIT)


def test_stop_ends_every_column_and_says_so(page):
    set_number(page, "length", "512")
    set_number(page, "temperature", "2")  # so hot, and with luck such, that neither column ends by itself for seconds
    set_number(page, "seed", "149")
    ask(page, MOTTO)
    state(page, "base", "writing")  # the answer that stood there before is gone
    says(page, "base", re.compile("."))
    expect(page.locator("#stop")).to_be_visible(timeout=WAIT)
    page.locator("#stop").press("Enter")
    for side in ("base", "adapted"):
        state(page, side, "cancelled")
        expect(page.locator(f"#{side}-status")).to_contain_text("已被你停止")
    before = answers(page)
    time.sleep(1)
    assert answers(page) == before


def test_a_new_question_replaces_the_one_under_way(page):
    set_number(page, "length", "512")
    ask(page, MOTTO)
    state(page, "base", "writing")
    says(page, "base", re.compile("."))
    ask(page, "   ")
    expect(page.get_by_text("还没有问题")).to_be_visible(timeout=WAIT)
    time.sleep(1)
    expect(page.locator(".lens-col")).to_have_count(0)


def test_a_loop_is_shaded_from_its_onset(page):
    loops = page.locator("#base .lens-loop")
    for question in ("哈工大有多少杰出人才", MOTTO, "哈工大首任校长是谁？", "哈尔滨工业大学是何时建立的？", "今天天气"):
        ask(page, question)
        finished(page)
        if loops.count():
            break
    expect(loops).to_be_visible()
    expect(page.locator("#base .lens-badge")).to_contain_text(re.compile(r"↻ ×\d+"))
    expect(page.locator("#base-status")).to_contain_text("循环")


def test_a_result_is_saved_as_json_and_markdown(first_sight):
    for name, start in (("JSON", "{"), ("Markdown", "# 哈工大有多少杰出人才")):
        with first_sight.expect_download() as saved:
            first_sight.get_by_role("button", name=name).click()
        assert Path(saved.value.path()).read_text(encoding="utf-8").startswith(start)


def test_the_language_is_the_browsers_until_it_is_switched(visit):
    page = visit(locale="en-GB")
    expect(page.locator("h1")).to_have_text(re.compile("One model, two answers"), use_inner_text=True)
    expect(page.locator("#ask")).to_have_text("Ask")
    expect(page.get_by_role("tab", name="Compare")).to_be_visible()
    page.get_by_role("button", name="中文").click()
    expect(page.locator("#ask")).to_have_text("提问")
    page.reload()
    expect(page.locator("#ask")).to_have_text("提问", timeout=WAIT)
    assert page.locator("html").get_attribute("lang") == "zh-CN"


def test_terms_are_explained_on_keyboard_focus_and_everything_has_a_name(first_sight):
    tip = first_sight.locator("#base-status .lens-tip").first
    expect(tip.locator("[role=tooltip]")).to_be_hidden()
    tip.focus()
    expect(tip.locator("[role=tooltip]")).to_be_visible()
    nameless = first_sight.locator("button:visible").evaluate_all(
        "all => all.filter(b => !b.textContent.trim() && !b.ariaLabel && !b.title).map(b => b.outerHTML)")
    assert not nameless
    expect(first_sight.locator("#adapted .lens-answer")).to_have_attribute("aria-live", "polite")


@pytest.mark.parametrize("width", [1024, pytest.param(2560, marks=pytest.mark.slow)])  # 390 and 1440: below
def test_no_width_scrolls_sideways(visit, width):
    page = visit(width=width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("width, height, locale", [(1440, 900, "zh-CN"), (390, 844, "zh-CN"), (390, 844, "en-GB")])
def test_a_first_visitor_sees_the_loop_beside_the_answer_without_scrolling(visit, width, height, locale):
    page = visit(width=width, locale=locale)
    page.set_viewport_size({"width": width, "height": height})
    for shown in ("#base .lens-loop", "#adapted .lens-answer > span"):
        box = page.locator(shown).first.bounding_box()
        assert box["y"] + 40 <= height, shown
    left, right = (page.locator(side).bounding_box() for side in ("#base", "#adapted"))
    assert left["x"] + left["width"] <= right["x"] and left["y"] == right["y"]
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_api_streams_named_values(address):
    from gradio_client import Client

    client = Client(address, verbose=False)
    job = client.submit(question=MOTTO, strengths=[1.0, 0.0], max_new_tokens=16, api_name="/compare")
    result = job.result(timeout=60)
    assert [c["variant"] for c in result["columns"]] == ["base", "lens", "lens@0"]
    assert result["columns"][0]["token_ids"] == result["columns"][2]["token_ids"]
    assert len(job.outputs()) > 1


def test_a_tab_taken_from_the_menu_of_a_phone_keeps_its_language(visit):
    """Gradio changes the words inside the tabs that it moves, and for a time they stayed Chinese."""
    page = visit(locale="en-US", width=390)
    page.locator(".overflow-menu > button").click()
    page.locator(".overflow-dropdown button").last.click()
    expect(page.get_by_role("tab", selected=True)).to_have_text("How it works", timeout=WAIT)
    page.locator(".overflow-menu > button").click()
    labels = page.get_by_role("tab").all_inner_texts() + page.locator(".overflow-dropdown button").all_inner_texts()
    assert len(labels) >= 7 and not re.search("[一-鿿]", "".join(labels)), labels


def test_a_visitor_who_must_wait_sees_the_place_in_the_queue(page, address):
    """Gradio told it, and its own style clipped it away."""
    from gradio_client import Client

    from compare.page.compare.tab import AT_ONCE

    asked = {"question": MOTTO, "max_new_tokens": 1900, "temperature": 10.0}  # so hot that hardly any ends by itself
    client = Client(address, verbose=False)
    jobs = [client.submit(**asked, seed=i, api_name="/compare") for i in range(AT_ONCE)]
    try:
        for job in jobs:
            next(iter(job))  # under way
        ask(page, MOTTO)
        place = page.locator("#result .progress-text")
        expect(place).to_contain_text(re.compile(r"queue: \d+/\d+"), timeout=WAIT)
        expect(place).to_have_css("opacity", "1", timeout=WAIT)
        x, y = place.evaluate("e => { const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + 9]; }")
        assert page.evaluate("""([x, y]) => {
            const e = document.querySelector('#result .progress-text');
            for (let box = e.parentElement; box; box = box.parentElement) {
              const r = box.getBoundingClientRect();
              if (getComputedStyle(box).overflow === 'hidden' && (y < r.y || y > r.bottom)) return false;
            }
            return true; }""", [x, y])
    finally:
        for job in jobs:
            job.cancel()
