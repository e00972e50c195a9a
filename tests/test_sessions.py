"""What Gradio keeps of visitors who are gone is forgotten, and nothing of those who are there."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import gradio as gr
import httpx
import pytest
from gradio_client import Client

from bench.shared.served import free_port
from compare.server import freed_memory as heap
from compare.server.sessions import EVERY, GONE, IDLE, SessionCleaner, stream_of


@pytest.fixture(scope="module")
def page():
    with gr.Blocks() as page:
        count = gr.State(0)
        text = gr.Textbox()
        gr.Button().click(lambda n: (n + 1, str(n + 1)), count, [count, text], api_name="count")
    page.launch(server_port=free_port(), prevent_thread_lock=True, quiet=True)
    yield page
    page.close()


@pytest.fixture
def later(page):
    """`later(seconds)`: so much later, a request comes."""
    now, seen = [EVERY], []

    async def app(scope, receive, send):
        seen.append(scope)

    cleaner = SessionCleaner(app, page, clock=lambda: now[0])

    def later(seconds: float) -> SessionCleaner:
        now[0] += seconds
        with ThreadPoolExecutor(1) as apart:  # Playwright's loop may be running in this thread
            apart.submit(asyncio.run, cleaner({}, None, None)).result()
        assert seen.pop() == {}  # passed on
        return cleaner

    return later


def vanish(page, session: str) -> None:
    """Ask, and never fetch the answer."""
    number = next(i for i, fn in page.fns.items() if fn.api_name == "count")
    asked = {"data": [], "fn_index": number, "session_hash": session}
    assert httpx.post(f"{page.local_url}gradio_api/queue/join", json=asked).status_code == 200


def ago(page, session: str, how_long: timedelta) -> None:
    page.app.state_holder.time_last_used[session] = datetime.now() - how_long - timedelta(seconds=1)


def test_who_asks_again_and_again_loses_no_message(page, later):
    """Of 10,000 short questions 3 got CancelledError: their visitor was between two questions at two cleanings."""
    vanish(page, "busy")
    waiting = page._queue.pending_messages_per_session
    while page._queue.event_ids_to_events:
        pass
    for _ in "123":
        later(EVERY)
    assert waiting["busy"].qsize()  # it asked within the last half minute
    ago(page, "busy", timedelta(seconds=EVERY))
    cleaner = later(EVERY)
    cleaner.streams["busy"] += 1
    later(EVERY)
    assert waiting["busy"].qsize()  # it reads
    cleaner.streams.clear()
    for _ in "12":
        later(EVERY)
    assert "busy" not in waiting


def test_messages_that_nobody_fetches_are_gone_at_the_second_cleaning(page, later):
    vanish(page, "gone")
    waiting = page._queue.pending_messages_per_session
    while page._queue.event_ids_to_events:  # until it is answered
        pass
    later(0)
    assert "gone" in waiting and waiting["gone"].qsize()  # Gradio alone keeps them
    ago(page, "gone", timedelta(seconds=EVERY))
    later(EVERY)
    assert "gone" in waiting  # for the first time not here
    later(EVERY / 2)
    assert "gone" in waiting  # too early
    later(EVERY)
    assert "gone" not in waiting and "gone" not in page._queue.pending_event_ids_session


def test_state_of_an_hour_ago_is_forgotten_and_younger_kept(page, later):
    client = Client(page.local_url, verbose=False)
    assert [client.predict(api_name="/count") for _ in "12"] == ["1", "2"]
    later(EVERY)
    later(EVERY)
    assert client.predict(api_name="/count") == "3"  # whoever is there notices nothing
    holder = page.app.state_holder
    holder.time_last_used[client.session_hash] = datetime.now() - IDLE - timedelta(seconds=1)
    later(EVERY)
    assert client.session_hash not in holder.session_data
    assert client.predict(api_name="/count") == "1"


def test_settings_that_gradio_keeps_of_every_component_for_a_shut_door_are_let_go(page, later):
    """0.1 to 0.2 MB a session: what `/deep_link` would write, were it open. The visitor's own values stay."""
    client = Client(page.local_url, verbose=False)
    assert client.predict(api_name="/count") == "1"
    state = page.app.state_holder.session_data[client.session_hash]
    assert len(state.config_values) >= len(page.blocks) - 1
    later(EVERY)
    assert not list(state.config_values) and not list(state.components)
    assert [client.predict(api_name="/count") for _ in "12"] == ["2", "3"]  # Gradio would set its settings here
    assert not list(state.config_values)


def test_state_of_a_script_is_forgotten_after_a_minute_and_that_of_an_open_page_is_not(page, later):
    holder = page.app.state_holder
    for session in ("script", "browser", "reading"):
        vanish(page, session)
    while page._queue.event_ids_to_events:
        pass
    cleaner = later(EVERY)
    for session in ("script", "browser", "reading"):
        ago(page, session, GONE)
    cleaner.browsers.add("browser")  # it had a heartbeat once: a phone that was put away
    cleaner.streams["reading"] += 1
    later(EVERY)
    assert "script" not in holder.session_data and {"browser", "reading"} <= set(holder.session_data)
    cleaner.streams.clear()
    later(EVERY)
    assert "reading" not in holder.session_data and "browser" in holder.session_data
    ago(page, "browser", IDLE)
    later(EVERY)
    assert "browser" not in holder.session_data and not cleaner.browsers & {"browser"}


@pytest.mark.parametrize("path, query, stream", [
    ("/gradio_api/heartbeat/abc", b"", ("abc", True)), ("/lens/gradio_api/queue/data", b"session_hash=x", ("x", False)),
    ("/gradio_api/queue/join", b"", None), ("/", b"", None)])
def test_who_is_there_is_known_by_what_stays_open(path, query, stream):
    assert stream_of({"path": path, "query_string": query}) == stream


def test_a_stream_counts_for_as_long_as_it_is_open(page):
    inside = []

    async def app(scope, receive, send):
        inside.append(dict(cleaner.streams))
        raise ConnectionError

    cleaner = SessionCleaner(app, page, clock=lambda: 0.0)
    with pytest.raises(ConnectionError), ThreadPoolExecutor(1) as apart:
        apart.submit(asyncio.run, cleaner({"path": "/gradio_api/heartbeat/a"}, None, None)).result()
    assert inside == [{"a": 1}] and not cleaner.streams and cleaner.browsers == {"a"}


def test_freed_memory_is_given_back_where_the_system_has_a_call_for_it(monkeypatch):
    heap.give_back()
    monkeypatch.setattr(heap.sys, "platform", "win32")
    heap.give_back()
