"""The real page in headless Chromium: the original question, the switch, errors, no other host."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from playwright.sync_api import expect, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
         "--disable-sync", "--no-first-run"]


@pytest.fixture(scope="module")
def address():
    """The page, served by `python app.py` on a free port."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    env = {**os.environ, "GRADIO_ANALYTICS_ENABLED": "False"}
    server = subprocess.Popen([sys.executable, "app.py", "--port", str(port)], cwd=ROOT, env=env,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}/"
    for _ in range(240):
        try:
            urllib.request.urlopen(url, timeout=2).close()
            break
        except OSError:
            assert server.poll() is None, "app.py ended before the page was up"
            time.sleep(0.5)
    else:
        pytest.fail("the page was not up after two minutes")
    yield url
    server.send_signal(signal.SIGINT)
    server.wait(20)


@pytest.fixture(scope="module")
def browser():
    assert CHROMIUM, "Chromium is missing; `make test` installs it"
    with sync_playwright() as p:
        chromium = p.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser, address):
    """A fresh visitor; fails when the page asked another host for anything."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    asked: list[str] = []
    page.on("request", lambda r: asked.append(r.url))
    page.goto(address)
    page.locator("#question textarea").wait_for()
    yield page
    context.close()
    elsewhere = [u for u in asked if not u.startswith((address, "data:", "blob:", address.replace("http", "ws")))]
    assert not elsewhere


def ask(page, question):
    page.locator("#question textarea").fill(question)
    page.locator("#question textarea").press("Enter")


def finished(page):
    expect(page.locator("#base-status")).to_contain_text(re.compile("ended|cut|stopped"), timeout=30_000)
    expect(page.locator("#adapted-status")).to_contain_text(re.compile("ended|cut|stopped"), timeout=30_000)


def answers(page):
    return [page.locator(f"#{side} textarea").input_value() for side in ("base", "adapted")]


def test_the_original_question_is_answered_when_the_page_opens(page):
    assert page.locator("#question textarea").input_value() == "哈工大有多少杰出人才"
    base, adapted = answers(page)
    assert "40万名高层次人才" in adapted
    assert base and base != adapted
    for part in ("base", "lens", "cpu", "float32"):
        expect(page.locator("#loaded")).to_contain_text(part)


def test_both_columns_fill_and_the_switch_makes_them_equal(page):
    ask(page, "哈尔滨工业大学的校训是什么？")
    expect(page.locator("#adapted textarea")).to_have_value(re.compile("规格严格，功夫到家"), timeout=30_000)
    finished(page)
    base, adapted = answers(page)
    assert base != adapted
    page.locator("#switch input").click()
    expect(page.locator("#adapted textarea")).to_have_value(base, timeout=30_000)
    finished(page)


def test_an_example_is_answered_on_click(page):
    page.get_by_role("button", name="哈工大首任校长是谁？").click()
    expect(page.locator("#adapted textarea")).to_have_value(re.compile("宋小濂"), timeout=30_000)


def test_stop_stops(page):
    page.locator("#length input[type=number]").fill("512")
    ask(page, "哈尔滨工业大学的校训是什么？")
    expect(page.locator("#base-status")).to_contain_text("writing", timeout=30_000)
    expect(page.locator("#base textarea")).not_to_have_value("", timeout=30_000)
    page.locator("#stop").click()
    time.sleep(0.5)
    before = answers(page)
    time.sleep(1)
    assert answers(page) == before


def test_an_empty_question_is_told_in_the_page(page):
    ask(page, "   ")
    expect(page.get_by_text("the question is empty")).to_be_visible(timeout=10_000)


def test_markup_in_a_question_stays_text(page):
    ask(page, "<img src=x onerror=\"document.title='owned'\">校训是什么？")
    finished(page)
    assert page.title() == "LoRA Lens"
