"""The page's endpoints for programs, by Gradio's own client and, where the package is there, by a real MCP client."""

from __future__ import annotations

import asyncio
import json
from ast import literal_eval
from concurrent.futures import ThreadPoolExecutor

import gradio as gr
import pytest
from conftest import ADAPTER, BASE, MOTTO

from compare.engine.local import LocalEngine
from compare.page.page import build
from compare.page.shared import api as programs
from lens.adapter.directory import sha256

pytest_plugins = ["tests.open_page"]

NAMES = {"/compare", "/score", "/adapters"}
TIMELINE = sorted((BASE.parent / "timeline").glob("step-*"), key=lambda p: int(p.name.removeprefix("step-")))


@pytest.fixture(scope="module")
def client(address):
    from gradio_client import Client

    return Client(address, verbose=False)


def test_three_endpoints_are_named_and_typed(client):
    found = client.view_api(return_format="dict")["named_endpoints"]
    assert set(found) == NAMES
    assert found["/adapters"]["returns"][0]["python_type"]["type"] == "list[dict(str, Any)]"
    for name in NAMES:
        assert all(p["python_type"]["type"] != "Any" for p in (*found[name]["parameters"], *found[name]["returns"]))
    defaults = {p["parameter_name"]: p["parameter_default"] for p in found["/compare"]["parameters"]}
    assert defaults == {"question": None, "instruction": "", "strengths": None, "max_new_tokens": 128,
                        "temperature": 0.0, "top_p": 1.0, "seed": 0}


def test_adapters_tells_what_is_loaded(client):
    shipped, *others = client.predict(api_name="/adapters")
    record = json.loads((ADAPTER / "adapter_config.json").read_text(encoding="utf-8"))
    assert shipped["name"] == "lens" and shipped["sha256"] == sha256(ADAPTER / "adapter_model.safetensors")
    assert shipped["base_sha256"] == sha256(BASE / "model.safetensors")
    assert (shipped["r"], shipped["lora_alpha"]) == (record["r"], record["lora_alpha"])
    assert set(shipped["target_modules"]) == set(record["target_modules"])
    assert shipped["parameters"] == 196_608 and shipped["step"] == 2800 and not shipped["timeline"]
    assert [(other["name"], other["step"]) for other in others] == [
        (path.name, int(path.name.removeprefix("step-"))) for path in TIMELINE]
    assert all(other["timeline"] and other["sha256"] != shipped["sha256"] for other in others)


def test_a_name_from_adapters_is_one_that_score_takes(client):
    name = client.predict(api_name="/adapters")[1]["name"]
    assert client.predict(question=MOTTO, adapter=name, max_new_tokens=8, api_name="/score")["variant"] == name


def test_without_an_adapter_the_list_is_empty(tiny_base):
    page = build(LocalEngine(str(tiny_base), None, device="cpu"))
    listed = next(fn.fn for fn in page.fns.values() if fn.api_name == "adapters")
    assert listed() == []


def test_every_tool_says_what_its_parameters_are(engine):
    """By Gradio's own reading of docstrings, from which MCP tools are described."""
    page = build(engine)
    for fn in page.fns.values():
        if f"/{fn.api_name}" in NAMES and fn.api_visibility == "public":
            said, parameters, returns = gr.utils.get_function_description(fn.fn)
            assert said.endswith(".") and returns and all(parameters.values()), fn.api_name


def asked_by_mcp(url: str, question: str) -> tuple[list, dict, object]:
    """What a client of the Model Context Protocol gets: the tools, an answer, and what a bad question ends in."""
    from mcp import ClientSession
    from mcp.client.streamable_http import streamable_http_client

    async def ask():
        async with streamable_http_client(url) as (read, write, _), ClientSession(read, write) as session:
            await session.initialize()
            tools = (await session.list_tools()).tools
            asked = {"question": question, "strengths": [1.0, 0.0], "max_new_tokens": 16}
            answer = await session.call_tool("compare", asked)
            bad = await session.call_tool("compare", {"question": " "})
            return tools, literal_eval(answer.content[0].text), bad

    with ThreadPoolExecutor(1) as pool:  # the browser tests leave a loop running in this thread
        return pool.submit(asyncio.run, ask()).result(120)


@pytest.mark.skipif(not programs.speaks_mcp(), reason="the package mcp is not installed")
def test_a_real_mcp_client_lists_the_three_tools_and_compares(address, engine):
    tools, answer, bad = asked_by_mcp(f"{address}gradio_api/mcp/", MOTTO)
    assert {f"/{tool.name}" for tool in tools} == NAMES
    schema = next(tool.inputSchema for tool in tools if tool.name == "compare")
    assert schema["properties"]["question"]["type"] == "string" and "what is asked" in json.dumps(schema)
    base, adapted, off = answer["columns"]
    assert [base["variant"], adapted["variant"]] == ["base", "lens"]
    assert base["finish_reason"] and base["token_ids"] == off["token_ids"] != adapted["token_ids"]
    assert "the question is empty" in literal_eval(bad.content[0].text)["error"]["message"]
