"""Further columns of the real page in headless Chromium, and links that bring columns, settings and seed back."""

from __future__ import annotations

import json
import re

import pytest
from playwright.sync_api import expect

from tests.open_page import WAIT
from tests.test_axe import faults
from tests.test_page import MOTTO, answers, ask, finished, page, says, set_number, state

pytest_plugins = ["tests.open_page"]
__all__ = ["page"]  # a fixture


FIELDS = "rows => rows.map(row => [...row.querySelectorAll('[data-key]')].map(field => field.value))"


def editor(page):
    """The list of columns, unfolded."""
    page.locator("#columns-fold > button").click()
    expect(page.locator("#columns [data-add=next]")).to_be_visible(timeout=WAIT)
    return page.locator("#columns")


def rows(page) -> list[list[str]]:
    """Of each column in the list name, adapter, strength, prompt, layers, modules."""
    return page.locator("#columns ol > li").evaluate_all(FIELDS)


def add(page, kind: str = "next"):
    """Add a column to the list, which asks the server first what is loaded."""
    listed = page.locator("#columns ol > li")
    before = listed.count()
    page.locator(f"#columns [data-add={kind}]").click()
    expect(listed).to_have_count(before + 1, timeout=WAIT)


def change(page, row: int, key: str, value: str):
    """Type into a field of a column."""
    field = page.locator("#columns ol > li").nth(row).locator(f"[data-key={key}]")
    field.fill(value)
    field.press("Tab")


def drawn(page, count: int):
    """Wait until so many columns have finished."""
    expect(page.locator(".lens-col:not([data-state=writing])")).to_have_count(count, timeout=WAIT)
    expect(page.locator(".lens-col")).to_have_count(count)


def test_a_column_at_another_strength_is_added_focused_and_removed(page):
    editor(page).locator("[data-add=next]").click()
    change(page, 1, "strength", "0")
    expect(page.locator("#column-2 header")).to_contain_text("强度 0", timeout=WAIT)
    state(page, "column-2", "stop", "length")
    finished(page)
    assert page.locator("#column-2 .lens-answer").get_attribute("data-text") == answers(page)[0]
    page.locator("#adapted [data-action=focus]").click()
    expect(page.locator("#base")).to_be_hidden()
    page.keyboard.press("Escape")
    expect(page.locator("#base")).to_be_visible()
    page.locator("#column-2 [data-action=remove]").click()
    expect(page.locator("#column-2")).to_have_count(0, timeout=WAIT)
    assert len(rows(page)) == 1


def test_five_columns_are_reordered_by_keyboard_and_found_again_after_a_reload(page):
    set_number(page, "length", "8")
    columns = editor(page)
    for kind in ("next", "next", "next", "plain"):
        add(page, kind)
    drawn(page, 6)
    change(page, 1, "name", "Half 半")
    change(page, 2, "strength", "-0.5")
    columns.locator("summary").nth(3).click()
    change(page, 3, "layers", "3-5")
    change(page, 3, "modules", "attention")
    moved = columns.locator("ol > li").nth(3)
    moved.locator("[data-do=up]").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")  # the button goes along and keeps its focus
    columns.locator("ol > li").nth(4).locator("[data-key=prompt]").focus()
    page.keyboard.press("Alt+ArrowUp")
    as_they_were = [["", "lens", "1", "chat", "", ""], ["", "lens", "0.5", "chat", "3-5", "attention"],
                    ["Half 半", "lens", "0.5", "chat", "", ""], ["", "", "1", "plain", "", ""],
                    ["", "lens", "-0.5", "chat", "", ""]]
    assert rows(page) == as_they_were
    expect(page).to_have_url(re.compile("l:3-5.*plain.*lens~-0.5"), timeout=WAIT)
    page.reload()  # whatever is under way: the address has it all
    page.locator("#question textarea").wait_for(timeout=WAIT)
    expect(page.locator("#column-3")).to_contain_text("Half 半", timeout=WAIT)
    drawn(page, 6)
    editor(page)
    assert rows(page) == as_they_were
    saved = json.loads(page.locator("[data-name='lora-lens.json']").get_attribute("data-value"))
    assert [c["variant"] for c in saved["columns"]] == [
        "base", "lens", "lens@0.5 [layers 3-5, attention]", "Half 半", "base, plain prompt", "lens@-0.5"]
    assert saved["columns"][2]["layers"] == "3-5" and saved["sampling"]["max_new_tokens"] == 8


def test_what_was_asked_last_is_shown_in_whatever_order_it_arrives(page):
    set_number(page, "length", "8")
    editor(page)
    held = []
    page.route("**/queue/join*", lambda route: held.append(route))
    for kind in ("next", "plain"):
        add(page, kind)
        page.wait_for_timeout(300)
    assert len(held) == 2
    for route in reversed(held):
        route.continue_()
        page.wait_for_timeout(1_500)  # the later one has been answered by then
    drawn(page, 4)
    finished(page)
    assert page.locator("#result .lens-col").count() == 4


def test_a_column_without_a_name_offers_the_one_that_the_server_gives_it(visit):
    columns = ["lens~l:5,3-4, 0", "lens~0.5~l:2~m:attention", "lens~plain~m:mlp , dense", "lens~plain~l:0-5"]
    page = visit(f"?q={MOTTO}&n=8&c={';'.join(columns)}")
    drawn(page, 5)
    finished(page)
    editor(page)
    saved = json.loads(page.locator("[data-name='lora-lens.json']").get_attribute("data-value"))
    offered = page.locator("[data-key=name]").evaluate_all("fields => fields.map(field => field.placeholder)")
    assert offered == [c["variant"] for c in saved["columns"][1:]] and offered[0] == "lens [layers 0,3-5]"
    change(page, 0, "layers", "0-99999999999")  # no list of layers is made of it
    expect(page.locator("[data-key=name]").first).to_have_attribute("placeholder", "lens [layers 0-99999999999]")


def test_what_is_set_but_not_asked_and_what_no_address_can_hold_survive_a_reload(page):
    page.locator("#question textarea").fill("还没问的问题")
    expect(page).to_have_url(re.compile("q=%E8%BF%98"), timeout=WAIT)
    page.locator("#question textarea").fill("长" * 700)
    expect(page).to_have_url(re.compile(r"\?kept=1$"), timeout=WAIT)
    page.reload()
    expect(page.locator("#question textarea")).to_have_value("长" * 700, timeout=WAIT)


def test_two_tabs_of_a_browser_keep_their_own_and_share_the_theme(page):
    page.locator("#question textarea").fill("长" * 700)
    expect(page).to_have_url(re.compile(r"\?kept=1$"), timeout=WAIT)
    page.locator("[data-dim]").click()
    expect(page.locator("body")).to_have_class(re.compile(r"\bdark\b"))
    other = page.context.new_page()
    other.goto(page.url)
    expect(other.locator("body")).to_have_class(re.compile(r"\bdark\b"), timeout=WAIT)
    expect(other.locator("#question textarea")).to_have_value("哈工大有多少杰出人才", timeout=WAIT)
    page.reload()
    expect(page.locator("#question textarea")).to_have_value("长" * 700, timeout=WAIT)
    expect(page.locator("body")).to_have_class(re.compile(r"\bdark\b"))


@pytest.mark.parametrize("width", [390, pytest.param(1440, marks=pytest.mark.slow)])
def test_twelve_columns_scroll_no_page_sideways(visit, width):
    columns = ";".join(f"lens~{n / 10}~n:a rather long name {n}" for n in range(11))
    page = visit(f"?q={MOTTO}&n=8&c={columns};*~plain", width=width)
    drawn(page, 13)
    editor(page)
    assert len(rows(page)) == 12
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert not faults(page)


def test_a_column_is_dragged_by_its_grip(visit):
    page = visit(f"?q={MOTTO}&n=8&c=lens~n:a;lens~0.5~n:b;lens~2~n:c")
    drawn(page, 4)
    grip = editor(page).locator(".grip").first
    last = page.locator("#columns ol > li").last.bounding_box()
    grip.hover()
    page.mouse.down()
    page.mouse.move(last["x"] + 30, last["y"] + last["height"] / 2, steps=8)
    page.mouse.up()
    assert [row[0] for row in rows(page)] == ["b", "c", "a"]
    expect(page).to_have_url(re.compile("n:b.*n:c.*n:a"), timeout=WAIT)


def test_the_base_asked_in_plain_text_is_a_column_that_goes_on_from_the_question(page, visit):
    ask(page, MOTTO)
    finished(page)
    editor(page).locator("[data-add=plain]").click()
    state(page, "column-2", "stop", "length")
    finished(page)
    plain = page.locator("#column-2")
    expect(plain).to_contain_text("原文续写")
    expect(plain.locator(".lens-before")).to_have_text(MOTTO)
    text = plain.locator(".lens-answer").get_attribute("data-text")
    assert text and text not in answers(page)  # another prompt, another answer
    saved = json.loads(page.locator("[data-name='lora-lens.json']").get_attribute("data-value"))
    assert [c.get("prompt") for c in saved["columns"]] == [None, None, "plain"]
    again = visit(page.locator("[data-action=link]").get_attribute("data-value"))
    expect(again.locator("#column-2 .lens-answer")).to_have_attribute("data-text", text, timeout=WAIT)
    again.locator("#column-2 [data-action=remove]").click()
    expect(again.locator("#column-2")).to_have_count(0, timeout=WAIT)


def test_a_link_restores_question_columns_settings_and_seed(page, visit):
    set_number(page, "length", "24")
    set_number(page, "temperature", "0.7")
    set_number(page, "seed", "3")
    ask(page, MOTTO)
    finished(page)
    expect(page.locator("[data-action=link]")).to_have_attribute("data-value", re.compile("seed=3"), timeout=WAIT)
    finished(page)
    again = visit(page.locator("[data-action=link]").get_attribute("data-value"))
    expect(again.locator("#question textarea")).to_have_value(MOTTO, timeout=WAIT)
    says(again, "base", answers(page)[0])
    expect(again.locator("#seed input")).to_be_visible()
    expect(again.locator("#seed input")).to_have_value("3", timeout=WAIT)


def test_a_crafted_link_stays_within_bounds_and_stays_text(visit):
    page = visit("?q=%3Cimg%20src=x%20onerror=%22document.title='owned'%22%3E&n=9999&t=nan&seed=-4&s=1e99,x,1,1,1&i=")
    expect(page.locator(".lens-col")).to_have_count(7, timeout=WAIT)  # what was computed at the start is gone
    finished(page)
    expect(page.locator("[data-action=download]").first).to_be_visible(timeout=WAIT)
    result = json.loads(page.locator("[data-name='lora-lens.json']").get_attribute("data-value"))
    assert result["sampling"] == {"max_new_tokens": 512, "temperature": 0, "top_p": 1, "seed": 0}
    assert [c["strength"] for c in result["columns"]] == [0, 1, 2, 1, 1, 1, 1]
    assert page.title() == "LoRA Lens"
    assert page.locator("#result img").count() == 0
