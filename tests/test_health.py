"""`/health`, and the log: one line an event, without anybody's question unless it was asked for."""

from __future__ import annotations

import io
import re
import threading

import gradio as gr
import pytest
from conftest import MOTTO
from one_tab import StandInEngine
from playwright.sync_api import expect
from starlette.applications import Starlette
from starlette.testclient import TestClient

from bench.shared.served import free_port
from compare import __version__
from compare import event_log as events
from compare.engine.answers import compare
from compare.engine.interface import Question, Sampling
from compare.engine.model_thread import ENDED
from compare.page import page as whole_page
from compare.page.frame.words import both
from compare.server.health import Health
from compare.server.launch import Serving
from lens.errors import BadQuestion


@pytest.fixture
def lines():
    """The log as a list of lines, while the test runs."""
    out = io.StringIO()
    events.listen(stream=out)
    yield lambda: out.getvalue().splitlines()
    events.log.handlers = []


def asked(engine) -> tuple[int, dict]:
    with gr.Blocks() as page:
        pass
    page.queue(max_size=5)
    answer = TestClient(Starlette(routes=[Health(engine, page).route()])).get("/health")
    return answer.status_code, answer.json()


def test_health_tells_what_is_loaded_and_how_busy_it_is(engine):
    status, facts = asked(engine)
    assert status == 200 and facts["status"] == "ok" and facts["version"] == __version__
    assert (facts["device"], facts["dtype"], facts["adapters"]) == ("cpu", "float32", ["lens"])
    assert facts["queue"] == {"waiting": 0, "running": 0, "most": 5} and facts["uptime_seconds"] >= 0
    assert facts["batch"] == {"columns": 0, "room": 64} and facts["steps"] == "eager"
    assert facts["model_thread"]["state"] in ("idle", "running") and facts["model_thread"]["restarts"] == 0


def test_health_counts_the_questions_in_the_batch(engine):
    stream = compare(engine, Question(MOTTO), sampling=Sampling(400, temperature=2.0))
    next(stream)
    facts = asked(engine)[1]
    stream.close()
    assert facts["batch"]["columns"] == 2


@pytest.mark.parametrize("state, status", [("running", 200), ("restarted", 200), ("remote", 200), (ENDED, 503)])
def test_a_page_that_cannot_answer_says_so(state, status):
    engine = StandInEngine()
    engine.state, engine.restarts = state, 1
    found, facts = asked(engine)
    assert found == status and (facts["status"] == "ok") == (status == 200)
    assert facts["model_thread"] == {"state": state, "restarts": 1} and facts["queue"]["waiting"] == 1


# ---- the page's own word on it


@pytest.fixture
def shown(browser):
    """(page in Chromium, engine whose thread's state can be set) of a small page that is served as ours is."""
    engine = StandInEngine()
    with gr.Blocks() as blocks:
        gr.Textbox(label="words")
    Serving(port=free_port()).launch(blocks, engine, prevent_thread_lock=True, quiet=True)
    page = browser.new_page(locale="en-GB")
    page.goto(blocks.local_url)
    page.locator("#lens-notice").wait_for(state="attached")
    yield page, engine
    page.close()
    blocks.close()


def look_again(page) -> None:
    """As when a visitor comes back to the tab: the page asks at once, and not in its next twelve seconds."""
    with page.expect_event("requestfinished", lambda r: r.url.endswith("/health")):
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")


def test_a_page_that_is_open_says_that_the_models_thread_was_restarted_and_that_it_ended(shown):
    page, engine = shown
    notice = page.locator("#lens-notice")
    look_again(page)
    assert notice.inner_text() == "" and not notice.is_visible()
    engine.state, engine.restarts = "restarted", 1
    look_again(page)
    expect(notice).to_contain_text("died once and was restarted")
    notice.get_by_role("button", name="Got it").click()
    look_again(page)
    assert not notice.is_visible()  # said once
    engine.state, engine.restarts = ENDED, 1
    look_again(page)
    expect(notice).to_contain_text("nothing can be answered here")
    assert notice.get_by_role("button").count() == 0 and notice.get_attribute("role") == "status"


def test_a_page_whose_server_is_gone_says_so_and_stops_saying_it_when_it_is_back(shown):
    page, _ = shown
    notice = page.locator("#lens-notice")
    page.route("**/health", lambda route: route.abort())
    for _ in "12":
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        page.wait_for_timeout(300)
    expect(notice).to_contain_text("The server cannot be reached")
    page.unroute("**/health")
    expect(notice).to_be_hidden(timeout=10_000)  # it asks again soon by itself


@pytest.mark.parametrize("root, set_by", [("http://10.0.0.9:7860", "--trusted-proxy"), ("{own}lens", "--root-path")])
def test_a_page_that_a_proxy_serves_where_it_does_not_know_says_what_to_set(shown, root, set_by):
    page, _ = shown
    own = page.url

    def as_by_a_proxy(route):
        answer = route.fetch()
        told = answer.text().replace(f'"root":"{own.rstrip("/")}"', f'"root":"{root.format(own=own)}"')
        route.fulfill(response=answer, body=told)

    page.route(own, as_by_a_proxy)
    page.goto(own)
    notice = page.locator("#lens-notice")
    expect(notice).to_contain_text(set_by)
    assert notice.locator("[data-root]").text_content() == root.format(own=own)
    assert notice.locator("[data-here]").text_content() == own.rstrip("/")


def test_the_notices_words_are_escaped_and_in_both_languages(monkeypatch):
    before = whole_page.head()
    monkeypatch.setattr(whole_page, "draw", lambda *piece: both("</script><b>一", "</script><b>one"))
    head = whole_page.head()
    assert head.count("</script>") == before.count("</script>") == 2
    assert "<b>" not in head and "一" in head and "one" in head


def test_the_version_is_the_projects_own():
    import tomllib
    from pathlib import Path

    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == __version__


# ---- the log


def test_a_question_is_two_lines_without_its_text(engine, lines):
    *_, columns = compare(engine, Question(MOTTO), sampling=Sampling(4))
    (asking, ending) = lines()
    number = re.search(r"id=(\d+)", asking)[1]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ asked id=\d+ columns=2 characters=14", asking)
    assert re.search(rf"Z finished id={number} columns=2 tokens=8 seconds=[\d.]+ reasons='length,length'$", ending)
    assert MOTTO not in asking + ending


def test_stopping_leaving_and_refusing_are_told(engine, lines):
    stop = threading.Event()
    stream = compare(engine, Question(MOTTO), sampling=Sampling(400, temperature=2.0), cancelled=stop)
    next(stream)
    stop.set()
    list(stream)
    left = compare(engine, Question(MOTTO))
    next(left)
    left.close()
    with pytest.raises(BadQuestion):
        next(compare(engine, Question(" ")))
    ends = [line for line in lines() if " asked " not in line]
    assert [re.search(r"Z (\w+) ", line)[1] for line in ends] == ["cancelled", "cancelled", "refused"]
    assert "reasons='cancelled,cancelled'" in ends[0] and "left" in ends[1] and "reason='the question is" in ends[2]


def test_questions_are_shown_where_asked_for_and_write_no_line_of_their_own():
    out = io.StringIO()
    events.listen(questions=True, stream=out)
    hostile = "校训？\n2026-01-01T00:00:00Z finished id=1\u2028\x1b[2J\x85"
    try:
        events.event("asked", hostile, id=1)
    finally:
        events.log.handlers = []
    (line,) = out.getvalue().splitlines()
    assert "question='校训？\\n2026" in line and line.isprintable()


def test_a_library_is_silent(engine, capfd):
    *_, columns = compare(engine, Question(MOTTO), sampling=Sampling(2))
    assert "asked" not in capfd.readouterr().err
