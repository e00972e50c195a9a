"""Further columns of the real page in headless Chromium, and links that bring columns, settings and seed back."""

from __future__ import annotations

import json
import re

from playwright.sync_api import expect

from tests.open_page import WAIT
from tests.test_page import MOTTO, answers, ask, finished, page, says, set_number, state, type_number

pytest_plugins = ["tests.open_page"]
__all__ = ["page"]  # a fixture


def test_a_column_at_another_strength_is_added_focused_and_removed(page):
    page.locator("#more > button").click()
    type_number(page, "strength", "0")
    page.locator("#add").click()
    state(page, "column-2", "stop", "length")
    finished(page)
    assert page.locator("#column-2 .lens-answer").get_attribute("data-text") == answers(page)[0]
    page.locator("#adapted [data-action=focus]").click()
    expect(page.locator("#base")).to_be_hidden()
    page.keyboard.press("Escape")
    expect(page.locator("#base")).to_be_visible()
    page.locator("#column-2 [data-action=remove]").click()
    expect(page.locator("#column-2")).to_have_count(0, timeout=WAIT)


def test_the_base_asked_in_plain_text_is_a_column_that_goes_on_from_the_question(page, visit):
    ask(page, MOTTO)
    finished(page)
    page.locator("#more > button").click()
    page.locator("#add-plain").click()
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
