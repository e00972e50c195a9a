"""The page's endpoints for programs, by Gradio's own client and, where the package is there, by a real MCP client."""

from __future__ import annotations

import asyncio
import inspect
import json
import re
from ast import literal_eval
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import gradio as gr
import httpx
import pytest
from conftest import ADAPTER, BASE, MOTTO
from one_tab import StandInEngine, loaded

from bench.shared.served import ROOT
from compare.engine.answers import compare
from compare.engine.interface import BASE as BASE_COLUMN
from compare.engine.interface import PLAIN, Question, Sampling, Variant
from compare.engine.local import LocalEngine
from compare.page.page import build
from compare.page.shared import api as programs
from lens.base.identity import file_sha256

pytest_plugins = ["tests.open_page"]

NAMES = {"/compare", "/score", "/layer_map", "/by_layer", "/adapters"}
TIMELINE = sorted((BASE.parent / "timeline").glob("step-*"), key=lambda p: int(p.name.removeprefix("step-")))


@pytest.fixture(scope="module")
def client(address):
    from gradio_client import Client

    return Client(address, verbose=False)


def test_the_endpoints_are_named_and_typed(client):
    found = client.view_api(return_format="dict")["named_endpoints"]
    assert set(found) == NAMES
    assert found["/adapters"]["returns"][0]["python_type"]["type"] == "list[dict(str, Any)]"
    for name in NAMES:
        assert all(p["python_type"]["type"] != "Any" for p in (*found[name]["parameters"], *found[name]["returns"]))
    defaults = {p["parameter_name"]: p["parameter_default"] for p in found["/compare"]["parameters"]}
    assert defaults == {"question": None, "instruction": "", "strengths": None, "max_new_tokens": 128,
                        "temperature": 0.0, "top_p": 1.0, "seed": 0, "columns": None}


def test_adapters_tells_what_is_loaded(client):
    shipped, *others = client.predict(api_name="/adapters")
    record = json.loads((ADAPTER / "adapter_config.json").read_text(encoding="utf-8"))
    assert shipped["name"] == "lens" and shipped["sha256"] == file_sha256([ADAPTER / "adapter_model.safetensors"])
    assert shipped["base_sha256"] == file_sha256([BASE / "model.safetensors"])
    assert (shipped["r"], shipped["lora_alpha"]) == (record["r"], record["lora_alpha"])
    assert set(shipped["target_modules"]) == set(record["target_modules"])
    assert shipped["parameters"] == 393_216 and shipped["step"] == 6500 and not shipped["timeline"]
    assert [(other["name"], other["step"]) for other in others] == [
        (path.name, int(path.name.removeprefix("step-"))) for path in TIMELINE]
    assert all(other["timeline"] and other["sha256"] != shipped["sha256"] for other in others)


def test_a_name_from_adapters_is_one_that_score_takes(client):
    name = client.predict(api_name="/adapters")[1]["name"]
    assert client.predict(question=MOTTO, adapter=name, max_new_tokens=8, api_name="/score")["variant"] == name


TWELVE = [{"adapter": None}, {"adapter": None, "strength": 0.0, "prompt": "plain"},
          *({"adapter": "lens", "strength": s / 4} for s in range(-4, 5)), {"adapter": TIMELINE[0].name, "strength": 1}]


def test_twelve_columns_come_in_the_order_they_were_asked_for(client, engine):
    found = client.predict(question=MOTTO, columns=TWELVE, max_new_tokens=8, api_name="/compare")["columns"]
    assert [(c["adapter"], c["strength"], c.get("prompt", "chat")) for c in found] == [
        (c["adapter"], c.get("strength", 0.0), c.get("prompt", "chat")) for c in TWELVE]
    assert len({c["variant"] for c in found}) == 12 and found[1]["variant"] == PLAIN.name
    asked = [BASE_COLUMN, PLAIN, Variant.of("lens", 0.5)]
    *_, right = compare(engine, Question(MOTTO), asked, Sampling(8))
    assert [found[i]["token_ids"] for i in (0, 1, 8)] == [c.token_ids for c in right]
    assert found[6]["strength"] == 0 and found[6]["token_ids"] == found[0]["token_ids"] != found[10]["token_ids"]


def test_columns_are_scored_each_beside_the_base_in_its_own_form(client):
    columns = [{"adapter": "lens", "strength": 0.5}, {"adapter": "lens", "prompt": "plain"}, {"adapter": "lens"}]
    found = client.predict(question=MOTTO, columns=columns, max_new_tokens=8, api_name="/score")
    half, plain, whole = found["columns"]
    assert [c["variant"] for c in found["columns"]] == ["lens@0.5", "lens, plain prompt", "lens"]
    alone = client.predict(question=MOTTO, max_new_tokens=8, api_name="/score")
    assert {**alone, **whole} == alone and half["answers"]["base"]["tokens"] != whole["answers"]["base"]["tokens"]
    assert [t["token_id"] for t in plain["answers"]["base"]["tokens"]] != [
        t["token_id"] for t in whole["answers"]["base"]["tokens"]]


@pytest.mark.parametrize("bad, code", [
    ({"columns": "lens"}, "columns-expected"), ({"columns": []}, "columns-expected"), ({"columns": {}},
                                                                                       "columns-expected"),
    ({"columns": ["lens"]}, "column-expected"), ({"columns": [{"adaptor": "lens"}]}, "column-key-unknown"),
    ({"columns": [{"adapter": "nobody"}]}, "adapter-not-loaded"), ({"columns": [{"adapter": 3}]}, "adapter-not-loaded"),
    ({"columns": [{"adapter": "lens", "strength": "1"}]}, "number-out-of-range"),
    ({"columns": [{"adapter": "lens", "strength": 11}]}, "number-out-of-range"),
    ({"columns": [{"prompt": ["chat"]}]}, "column-prompt-unknown"), ({"columns": [{}] * 65}, "too-many-columns"),
    ({"columns": [{}], "strengths": [1], "strength": 0.5}, "columns-beside"), ({"question": 7}, "text-expected"),
    ({"max_new_tokens": "x"}, "whole-number-out-of-range")])
@pytest.mark.parametrize("name", ["compare", "score"])
def test_whatever_is_wrong_is_told_by_a_code_and_in_both_languages(engine, name, bad, code):
    fn = next(fn.fn for fn in build_once(engine).fns.values() if fn.api_name == name)
    known = inspect.signature(fn).parameters
    found = fn(**{"question": MOTTO, **{k: v for k, v in bad.items() if k in known}})
    error = (found if name == "score" else next(found))["error"]
    assert error["code"] == code and error["message"] != code and error["message_zh"] != error["message"]


@pytest.mark.parametrize("name", sorted(NAMES - {"/adapters"}))
def test_what_has_no_sentence_of_its_own_is_told_by_a_code_and_logged(name, caplog):
    """Gradio would say that the app "has not enabled verbose error reporting"."""
    broken = StandInEngine(loaded("lens", ADAPTER))
    broken.error = RuntimeError("the disk fell out")
    fn = next(fn.fn for fn in build(broken).fns.values() if fn.api_name == name[1:])
    with caplog.at_level("INFO", "lens"):
        found = fn(question=MOTTO)
        error = (next(found) if name == "/compare" else found)["error"]
    assert error["code"] == "answer-broken" and "disk" not in error["message"]
    assert "failed kind='RuntimeError' reason='the disk fell out'" in caplog.text


def test_over_http_what_is_of_another_type_is_told_by_a_code(address):
    """As a program without gradio_client asks: a list of parameters in order."""
    rest = [None, 8, 0, 1, 0]
    for data, code in ([[None, "", *rest, None], "text-expected"], [[MOTTO, {"a": 1}, *rest, None], "text-expected"],
                       [[MOTTO, "", *rest, [{"adapter": ["lens"]}]], "adapter-not-loaded"],
                       [[MOTTO, "", *rest, {"adapter": "lens"}], "columns-expected"],
                       [[MOTTO, "", "half", *rest[1:], None], "list-expected"]):
        told = over_http(address, "compare", data)
        assert code in told, (data, told)


def over_http(address: str, name: str, data: list) -> str:
    """The whole stream of an endpoint's answer to a list of values."""
    event = httpx.post(f"{address}gradio_api/call/{name}", json={"data": data}).json()["event_id"]
    return httpx.get(f"{address}gradio_api/call/{name}/{event}").text


def test_a_program_that_sends_the_values_there_were_before_columns_is_answered(address, client):
    """Gradio refused fewer values than there are parameters, without a word of why."""
    old = [MOTTO, "", [1.0], 8, 0, 1, 0]
    by_name = client.predict(question=MOTTO, strengths=[1.0], max_new_tokens=8, api_name="/compare")
    said = [c["text"] for c in by_name["columns"]]
    assert [c["text"] for c in client.predict(*old, api_name="/compare")["columns"]] == said
    for data in (old, [*old, None], old[:4]):
        last = over_http(address, "compare", data).rpartition("event: complete\ndata: ")[2]
        assert [c["text"] for c in json.loads(last)[0]["columns"]] == said, data
    assert '"variant": "lens"' in over_http(address, "score", [MOTTO, "", "", 1, 8])
    assert "text-expected" in over_http(address, "compare", [])


@cache
def build_once(engine) -> gr.Blocks:
    return build(engine)


def test_every_example_for_programs_runs(address, capsys):
    """docs/api.md's Python, in order, in one namespace, against the page that is up."""
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    examples = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(examples) >= 8
    names: dict = {}
    with ThreadPoolExecutor(1) as pool:  # the browser tests leave a loop running in this thread
        for example in examples:
            pool.submit(exec, example.replace("http://127.0.0.1:7860/", address).replace(
                "http://127.0.0.1:7860", address.rstrip("/")), names).result(120)
    said = capsys.readouterr().out
    assert "['base', 'lens', 'lens@0.5', 'base, plain prompt']" in said and "adapter-not-loaded" in said


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
def test_a_real_mcp_client_lists_the_tools_and_compares(address, engine):
    tools, answer, bad = asked_by_mcp(f"{address}gradio_api/mcp/", MOTTO)
    assert {f"/{tool.name}" for tool in tools} == NAMES
    schema = next(tool.inputSchema for tool in tools if tool.name == "compare")
    assert schema["properties"]["question"]["type"] == "string" and "what is asked" in json.dumps(schema)
    base, adapted, off = answer["columns"]
    assert [base["variant"], adapted["variant"]] == ["base", "lens"]
    assert base["finish_reason"] and base["token_ids"] == off["token_ids"] != adapted["token_ids"]
    assert "the question is empty" in literal_eval(bad.content[0].text)["error"]["message"]
