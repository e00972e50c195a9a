"""The whole page under faults and odd input, over an engine without a model: a server that goes and comes back, a slow
network, a crowd, long and strange texts, a zoomed page, no motion, no mouse."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import httpx
import pytest
from one_tab import StandInEngine, loaded
from playwright.sync_api import expect

from bench.shared.served import free_port
from bench.trust.wire import endpoint, events
from compare.page import page as whole_page
from compare.page.compare.tab import AT_ONCE
from compare.server.endpoint import Endpoint
from compare.server.launch import Serving
from lens.chat import LONGEST
from lens.errors import BadQuestion
from tests.conftest import ADAPTER
from tests.open_page import WAIT
from tests.test_page import ask, finished, says

STRANGE = {"right to left": "مرحبا بالعالم، كيف حالك؟", "emoji": "👨‍👩‍👧‍👦🏳️‍🌈👩🏽‍🚀🇨🇳",
           "combining": "e" + "\u0301\u0323" * 40 + "น้ำ", "mixed": "abc עברית 汉字 \u202eflip\u202c <b>&amp;"}
ALL_ASKED = threading.Event()  # what the answers of a crowd wait for
LONG = "校训。" * 666 + "完了"  # 2,000 tokens of the stand-in, which are characters


class Long(StandInEngine):
    """As the real engine: a question that is too long is refused with its numbers."""

    def ask(self, questions, variants=None, sampling=None, cancelled=None):
        [question] = questions
        if len(question.text) + len(question.instruction) > LONGEST:
            raise BadQuestion("question-too-many-characters", question=f"{len(question.text):,}",
                              instruction=f"{len(question.instruction):,}", longest=f"{LONGEST:,}")
        yield from super().ask(questions, variants, sampling, cancelled)


def says_it(question, variant):
    if question.startswith("慢"):
        ALL_ASKED.wait(60)
    told = f"{len(question):,} characters came" if len(question) > 3000 else question
    return (LONG if question == "长" else told), "stop"


@contextlib.contextmanager
def serving(port: int, *endpoints: Endpoint):
    """The whole page on this port."""
    engine = Long(loaded("lens", ADAPTER), loaded("other", ADAPTER), says=says_it)
    blocks = whole_page.build(engine, endpoints=endpoints)
    Serving(port=port).launch(blocks, engine, prevent_thread_lock=True, quiet=True)
    try:
        yield blocks.local_url
    finally:
        blocks.close()


@pytest.fixture(scope="module")
def url():
    with serving(free_port()) as url:
        yield url


@pytest.fixture
def opened(browser):
    """Open an address as a fresh visitor."""
    contexts = []

    def open_page(url: str, locale: str = "en-GB", width: int = 1440, height: int = 900, **options):
        contexts.append(browser.new_context(locale=locale, viewport={"width": width, "height": height}, **options))
        page = contexts[-1].new_page()
        page.goto(url)
        page.locator("#question textarea").wait_for(timeout=WAIT)
        page.wait_for_timeout(300)  # Gradio listens a moment after it has drawn
        return page

    yield open_page
    for context in contexts:
        context.close()


@pytest.mark.slow
def test_a_page_whose_server_was_started_anew_says_so_and_answers_again(opened):
    port = free_port()
    with serving(port) as url:
        page = opened(url)
        ask(page, "before")
        says(page, "adapted", "before")
    notice = page.locator("#lens-notice")
    expect(notice).to_contain_text("The server cannot be reached", timeout=WAIT)
    with serving(port):
        expect(notice).to_be_hidden(timeout=WAIT)
        expect(page.locator("#question textarea")).to_have_value("before")  # what was typed is still there
        ask(page, "after")
        says(page, "adapted", "after")


@pytest.mark.slow
def test_over_a_slow_network_the_page_answers_and_an_outage_is_told(opened, url):
    page = opened(url)
    wire = page.context.new_cdp_session(page)
    slow = {"latency": 400, "downloadThroughput": 50_000, "uploadThroughput": 20_000}
    wire.send("Network.emulateNetworkConditions", {"offline": False, **slow})
    ask(page, "slowly")
    says(page, "adapted", "slowly")
    wire.send("Network.emulateNetworkConditions", {"offline": True, **slow})
    expect(page.locator("#lens-notice")).to_contain_text("The server cannot be reached", timeout=WAIT)
    wire.send("Network.emulateNetworkConditions", {"offline": False, **slow})
    expect(page.locator("#lens-notice")).to_be_hidden(timeout=WAIT)
    ask(page, "again")
    says(page, "adapted", "again")


def test_each_of_sixty_four_visitors_gets_its_own_answer_and_one_more_sees_its_place(opened, url):
    page, port = opened(url), urlsplit(url).port
    number = endpoint(port)

    def visit(i: int) -> list[str]:
        *_, last = events(port, [f"慢 {i}", "", [1.0], 8, 0, 1, 0, None], number)
        return [column["text"] for column in last["output"]["data"][0]["columns"]]

    with ThreadPoolExecutor(64) as pool:
        visitors = [pool.submit(visit, i) for i in range(64)]
        try:
            until = time.monotonic() + 40
            while httpx.get(f"{url}health").json()["queue"]["waiting"] < 64 - AT_ONCE:
                assert time.monotonic() < until
                time.sleep(0.05)
            ask(page, "one more")
            place = page.locator("#result .progress-text")
            expect(place).to_contain_text(re.compile(r"queue: \d+/\d+"), timeout=WAIT)
        finally:
            ALL_ASKED.set()
        says(page, "adapted", "one more")
        found = [visitor.result(60) for visitor in visitors]
    assert found == [[f"慢 {i}"] * 3 for i in range(64)]


def test_another_servers_column_says_that_nothing_of_it_is_proven_and_keeps_its_fault(opened, url):
    own_v1, nobody = Endpoint("own", f"{url}v1", "lens@0.5"), Endpoint("nobody", f"http://127.0.0.1:{free_port()}/v1")
    with serving(free_port(), own_v1, nobody) as beside:
        page = opened(beside)
        ask(page, "all of you")
        for side in ("adapted", "endpoint-0"):
            says(page, side, "all of you")
        expect(page.locator("#endpoint-0")).to_contain_text("not in this batch, nothing proven")
        expect(page.locator("#endpoint-1 [role=alert]")).to_be_visible(timeout=WAIT)
        expect(page.locator("#base")).to_have_attribute("data-state", "stop")


def test_an_answer_of_two_thousand_tokens_is_whole_and_scrolls_within_its_column(opened, url):
    page = opened(url)
    ask(page, "长")
    says(page, "adapted", LONG)
    finished(page)
    assert page.locator("#adapted .lens-answer").evaluate("e => e.scrollHeight > e.clientHeight")
    expect(page.locator("#adapted-status")).to_contain_text("2000 tokens")
    assert page.evaluate("document.documentElement.scrollWidth") <= 1440


def test_what_is_pasted_is_asked_whole_or_refused_with_both_numbers(opened, url):
    page = opened(url)
    box = page.locator("#question textarea")
    box.fill("a" * 99_000)
    page.locator("#ask").click()
    says(page, "adapted", "99,000 characters came")
    box.fill("b" * 100_001)
    page.locator("#ask").click()
    refused = page.locator("#result [role=alert]")
    expect(refused).to_contain_text("100,001 characters", timeout=WAIT)
    expect(refused).to_contain_text("100,000")
    assert box.input_value() == "b" * 100_001  # nothing that was typed is lost


def test_strange_texts_are_answered_as_they_are_and_leave_their_columns_alone(opened, url):
    page = opened(url, width=390)
    answer = page.locator("#adapted .lens-answer")
    for name, text in STRANGE.items():
        ask(page, text)
        says(page, "adapted", text)
        finished(page)
        direction = answer.evaluate("e => getComputedStyle(e).direction")
        assert direction == ("rtl" if name == "right to left" else "ltr"), name
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, name
    page.wait_for_function("asked => new URLSearchParams(location.search).get('q') === asked", arg=text, timeout=WAIT)
    page.reload()
    expect(page.locator("#question textarea")).to_have_value(text, timeout=WAIT)


@pytest.mark.parametrize("width, height", [(720, 450), (195, 422)])
def test_zoomed_to_two_hundred_percent_nothing_is_out_of_reach(opened, url, width, height):
    """A window of 1440 × 900, or a phone's, at 200%: half as many CSS pixels, of twice the size."""
    page = opened(url, width=width, height=height, device_scale_factor=2)
    ask(page, "zoom")
    says(page, "adapted", "zoom")
    page.locator("#columns-fold > button").click()
    expect(page.locator("#columns [data-add=next]")).to_be_visible(timeout=WAIT)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    out = page.locator("button:visible, input:visible, select:visible, textarea:visible").evaluate_all(
        "(all, width) => all.filter(e => e.closest('.lens-own, .lens-ask')).map(e => [e, e.getBoundingClientRect()])"
        ".filter(([e, r]) => r.left < -1 || r.right > width + 1).map(([e]) => e.outerHTML.slice(0, 90))", width)
    assert not out


def test_who_wants_no_motion_sees_none(opened, url):
    page = opened(url, reduced_motion="reduce")
    ask(page, "still")
    says(page, "adapted", "still")
    for name in ("Compare", "What changed", "How it works"):
        page.get_by_role("tab", name=name, exact=True).click()
        page.wait_for_timeout(300)
        moving = page.evaluate("document.getAnimations().filter(a => a.playState === 'running').map("
                               "a => a.effect.target.outerHTML.slice(0, 90))")
        assert not moving, name


def test_every_control_of_the_list_of_columns_is_reached_and_used_by_keyboard(opened, url):
    page = opened(f"{url}?q=x&c=lens~n:a;other~n:b", locale="zh-CN")
    finished(page)
    page.locator("#columns-fold > button").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#columns [data-add=next]")).to_be_visible(timeout=WAIT)
    wanted = page.locator("#columns :is(button, input, select, summary)").evaluate_all(
        "all => all.filter(e => e.checkVisibility() && !e.disabled).map((e, i) => e.dataset.seen = String(i))")
    seen = []
    while len(seen) < len(wanted):
        page.keyboard.press("Tab")
        at = page.evaluate("document.activeElement.closest('#columns') && document.activeElement.dataset.seen")
        if at is None:
            break
        seen.append(at)
    assert seen == wanted  # all, in the order in which they stand
    rows = page.locator("#columns ol > li")
    names = "rows => rows.map(row => row.querySelector('[data-key=name]').value)"

    def press(row: int, control: str, *keys: str) -> None:
        rows.nth(row).locator(control).focus()
        for key in keys:
            page.keyboard.press(key)

    press(0, "[data-do=down]", "Enter")
    assert rows.evaluate_all(names) == ["b", "a"]
    press(1, "[data-do=up]", "Space")
    assert rows.evaluate_all(names) == ["a", "b"]
    press(0, "[data-do=copy]", "Enter")
    expect(rows).to_have_count(3)
    page.keyboard.type("c")  # the copy's name is what has the focus
    page.keyboard.press("Tab")
    assert rows.evaluate_all(names) == ["a", "c", "b"]
    press(2, "[data-do=remove]", "Enter")
    expect(rows).to_have_count(2)
    assert page.evaluate("document.activeElement.dataset.do") == "remove"  # the focus is not lost
    press(0, "[data-key=adapter]", "ArrowDown")
    press(0, "[data-key=prompt]", "ArrowDown")
    press(0, "summary", "Enter")
    expect(rows.first.locator("[data-key=layers]")).to_be_visible()
    page.locator("#columns [data-add=plain]").focus()
    page.keyboard.press("Enter")
    expect(rows).to_have_count(3)
    expect(page).to_have_url(re.compile("c=other~plain~n:a;lens~n:c;\\*~plain"), timeout=WAIT)


def test_a_screen_reader_hears_a_name_for_everything_and_each_but_once_in_a_list(opened, url):
    page = opened(f"{url}?q=x&c=lens~n:a;other~n:b")
    finished(page)
    page.locator("#columns-fold > button").click()
    expect(page.locator("#columns [data-add=next]")).to_be_visible(timeout=WAIT)
    tree = page.locator("body").aria_snapshot()
    nameless = re.findall(r"^\s*- (?:button|textbox|combobox|checkbox|slider|spinbutton|link|tab)(?: \[.*\])?:?$", tree,
                          re.MULTILINE)
    assert not nameless, tree
    for heard in ('heading "Base"', 'region "a"', 'textbox "Question"', 'group "Column 2"', 'combobox "Adapter"',
                  'button "Move later"', 'button "Duplicate"'):
        assert heard in tree, (heard, tree)
