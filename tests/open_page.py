"""Fixtures: the real page served by app.py, headless Chromium, and a visitor who may ask no other host."""

from __future__ import annotations

import contextlib
import os

import pytest

from bench.shared.served import served

WAIT = 30_000  # ms


@pytest.fixture(scope="session")
def address(tmp_path_factory):
    """The page, served by `python app.py` on a free port, with a place of its own for trainings."""
    env = {**os.environ, "GRADIO_ANALYTICS_ENABLED": "False", "LENS_TRAININGS": str(tmp_path_factory.mktemp("home"))}
    with served(env) as page:
        yield page.url


@contextlib.contextmanager
def visiting(browser, address):
    """Open the page as a fresh visitor; fails when it asked another host for anything or a script failed."""
    contexts, asked, faults = [], [], []

    def open_page(query: str = "", locale: str = "zh-CN", width: int = 1440):
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}, locale=locale))
        page = contexts[-1].new_page()
        page.on("request", lambda r: asked.append(r.url))
        page.on("pageerror", lambda e: faults.append(str(e)))
        page.goto(address + query)
        page.locator("#question textarea").wait_for(timeout=WAIT)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not [u for u in asked if not u.startswith((address, "data:", "blob:", address.replace("http", "ws")))]
    assert not faults


@pytest.fixture
def visit(browser, address):
    with visiting(browser, address) as open_page:
        yield open_page
