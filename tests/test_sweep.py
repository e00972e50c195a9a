"""What Gradio keeps of visitors who are gone is forgotten, and nothing of those who are there."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import gradio as gr
import httpx
import pytest
from gradio_client import Client

from bench.trust.server import free_port
from compare.page.sweep import EVERY, IDLE, Sweep


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
def swept(page):
    """`swept(seconds)`: so much later, a request comes."""
    now, seen = [EVERY], []

    async def app(scope, receive, send):
        seen.append(scope)

    sweep = Sweep(app, page, clock=lambda: now[0])

    def later(seconds: float) -> None:
        now[0] += seconds
        with ThreadPoolExecutor(1) as apart:  # Playwright's loop may be running in this thread
            apart.submit(asyncio.run, sweep({}, None, None)).result()
        assert seen.pop() == {}  # passed on

    return later


def vanish(page, session: str) -> None:
    """Ask, and never fetch the answer."""
    number = next(i for i, fn in page.fns.items() if fn.api_name == "count")
    asked = {"data": [], "fn_index": number, "session_hash": session}
    assert httpx.post(f"{page.local_url}gradio_api/queue/join", json=asked).status_code == 200


def test_messages_that_nobody_fetches_are_gone_at_the_second_sweep(page, swept):
    vanish(page, "gone")
    waiting = page._queue.pending_messages_per_session
    while page._queue.event_ids_to_events:  # until it is answered
        pass
    swept(0)
    assert "gone" in waiting and waiting["gone"].qsize()  # Gradio alone keeps them
    swept(EVERY / 2)
    assert "gone" in waiting  # too early
    swept(EVERY)
    assert "gone" not in waiting and "gone" not in page._queue.pending_event_ids_session


def test_state_of_an_hour_ago_is_forgotten_and_younger_kept(page, swept):
    client = Client(page.local_url, verbose=False)
    assert [client.predict(api_name="/count") for _ in "12"] == ["1", "2"]
    swept(EVERY)
    swept(EVERY)
    assert client.predict(api_name="/count") == "3"  # whoever is there notices nothing
    holder = page.app.state_holder
    holder.time_last_used[client.session_hash] = datetime.now() - IDLE - timedelta(seconds=1)
    swept(EVERY)
    assert client.session_hash not in holder.session_data
    assert client.predict(api_name="/count") == "1"
