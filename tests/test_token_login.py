"""A page with a password, and programs that bring it along: to `/v1`, to Gradio's own addresses, and by MCP."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import gradio as gr
import httpx
import pytest
from one_tab import StandInEngine, loaded

from bench.shared.served import free_port
from compare.page.shared.api import endpoint, speaks_mcp
from compare.server.launch import Serving

RIGHT = {"Authorization": "Bearer me:a:secret"}
WRONG = [{}, {"Authorization": "Bearer me:wrong"}, {"Authorization": "Bearer"}, {"Authorization": "me:a:secret"},
         {"Authorization": "Basic bWU6"}, {"Authorization": "Basic é".encode()}, {"x-gradio-user": "mcp"},
         {"cookie": "access-token-x=y"}]


def double(text: str) -> str:
    """The text twice.

    Args:
        text: any
    Returns:
        it twice
    """
    return text * 2


@pytest.fixture(scope="module")
def page():
    with gr.Blocks() as blocks:
        endpoint(double, str)
    Serving(port=free_port(), auth=("me", "a:secret")).launch(blocks, StandInEngine(loaded("lens")),
                                                              prevent_thread_lock=True, quiet=True)
    yield blocks.local_url
    blocks.close()


@pytest.mark.parametrize("path", ["v1/models", "gradio_api/mcp/", "gradio_api/mcp", "config", "gradio_api/info"])
def test_without_the_right_token_everything_is_shut(page, path):
    assert [w for w in WRONG if httpx.get(page + path, headers=w, follow_redirects=True).status_code != 401] == []
    assert httpx.get(page + "health").status_code == 200


def test_the_token_opens_v1_and_gradios_addresses(page):
    from gradio_client import Client

    for right in (RIGHT, {"Authorization": "bearer me:a:secret"}, {"Authorization": "Basic bWU6YTpzZWNyZXQ="}):
        assert [m["id"] for m in httpx.get(page + "v1/models", headers=right).json()["data"]] == ["base", "lens"]
    refused = httpx.get(page + "v1/models").json()["error"]
    assert refused["code"] == "login-missing" and "USER:PASSWORD" in refused["message"]
    assert Client(page, headers=RIGHT, verbose=False).predict("ab", api_name="/double") == "abab"


def test_who_logged_in_on_the_page_may_use_v1_too(page):
    with httpx.Client(base_url=page) as browser:
        browser.post("login", data={"username": "me", "password": "a:secret"})
        assert browser.get("v1/models").status_code == 200
    assert httpx.get(page + "v1/models").status_code == 401


@pytest.mark.skipif(not speaks_mcp(), reason="the package mcp is not installed")
def test_an_mcp_client_with_the_token_calls_a_tool(page):
    from mcp import ClientSession
    from mcp.client.streamable_http import streamable_http_client

    async def ask() -> str:
        async with (httpx.AsyncClient(headers=RIGHT) as http,
                    streamable_http_client(f"{page}gradio_api/mcp/", http_client=http) as (read, write, _),
                    ClientSession(read, write) as session):
            await session.initialize()
            return (await session.call_tool("double", {"text": "ab"})).content[0].text

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(asyncio.run, ask()).result(60) == "abab"
