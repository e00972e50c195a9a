"""`/v1` in OpenAI's form: read strictly, streamed and whole, errors in its form; alone over an engine without a model,
and on the real page by OpenAI's own Python package."""

from __future__ import annotations

import json
import threading
import time

import pytest
from conftest import MOTTO
from one_tab import StandInEngine, loaded
from starlette.applications import Starlette
from starlette.testclient import TestClient

from compare.engine.answers import compare
from compare.engine.interface import BASE, Question, Sampling, Variant
from compare.server.openai_api.chat_request import ChatRequest
from compare.server.openai_api.completion import Completion
from compare.server.openai_api.routes import OpenAiApi
from lens.errors import Unavailable

pytest_plugins = ["tests.open_page"]

USER = [{"role": "user", "content": MOTTO}]


@pytest.fixture(scope="module")
def stand_in():
    return StandInEngine(loaded("lens"), says=lambda question, variant: (f"{variant.name}: {question}", "stop"))


@pytest.fixture(scope="module")
def v1(stand_in):
    return TestClient(Starlette(routes=OpenAiApi(stand_in).routes()))


def asked(v1, **body):
    answer = v1.post("/v1/chat/completions", json={"model": "lens", "messages": USER, **body})
    return answer.status_code, answer.json()


def test_models_are_the_columns(v1):
    listed = v1.get("/v1/models").json()
    assert listed["object"] == "list" and [m["id"] for m in listed["data"]] == ["base", "lens"]
    assert v1.get("/v1/models/lens@0.5").json()["id"] == "lens@0.5"
    assert v1.get("/v1/models/nobody").json()["error"]["code"] == "model-unknown"
    assert v1.get("/v1/embeddings").status_code == 404
    assert v1.get("/v1/embeddings").json()["error"]["code"] == "address-unknown"


def test_an_answer_is_one_column_asked_as_the_form_says(v1, stand_in):
    status, found = asked(v1, model="lens@0.5", temperature=0.7, top_p=0.9, seed=3, max_tokens=9, user="me", n=1,
                          messages=[{"role": "system", "content": "请"},
                                    {"role": "user", "content": [{"type": "text", "text": "校训"},
                                                                 {"type": "text", "text": "？"}]}])
    assert status == 200 and found["object"] == "chat.completion" and found["model"] == "lens@0.5"
    [choice] = found["choices"]
    assert choice["message"] == {"role": "assistant", "content": "lens@0.5: 校训？", "refusal": None}
    assert choice["finish_reason"] == "stop" and choice["logprobs"] is None
    assert found["usage"] == {"prompt_tokens": 1, "completion_tokens": 13, "total_tokens": 14}
    assert stand_in.asked[-1] == ("校训？", "请", [Variant("lens@0.5", "lens", 0.5)], Sampling(9, 0.7, 0.9, 3))


def test_without_a_seed_each_call_has_luck_of_its_own(v1, stand_in):
    seeds = set()
    for _ in range(3):
        asked(v1, temperature=1)
        seeds.add(stand_in.asked[-1][3].seed)
    assert len(seeds) == 3


@pytest.mark.parametrize("body, status, code, param", [
    ({"model": "nobody"}, 404, "model-unknown", "model"), ({"model": "lens@much"}, 400, "model-strength", "model"),
    ({"model": "lens@99"}, 400, "number-out-of-range", "strength"), ({"model": 7}, 400, "text-expected", "model"),
    ({"messages": "hello"}, 400, "messages-expected", "messages"),
    ({"messages": []}, 400, "messages-roles", "messages"),
    ({"messages": [*USER, {"role": "assistant", "content": "a"}, *USER]}, 400, "messages-roles", "messages"),
    ({"messages": [{"role": "user", "content": None}]}, 400, "text-expected", "content"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400, "message-not-text", "messages"),
    ({"temperature": "hot"}, 400, "number-out-of-range", "temperature"),
    ({"temperature": -1}, 400, "number-out-of-range", "temperature"),
    ({"max_tokens": 1.5}, 400, "whole-number-out-of-range", "max_new_tokens"),
    ({"max_tokens": 2, "max_completion_tokens": 3}, 400, "two-lengths", "max_tokens"),
    ({"seed": True}, 400, "whole-number-out-of-range", "seed"), ({"stop": [""]}, 400, "stop-texts", "stop"),
    ({"stop": list("abcde")}, 400, "stop-texts", "stop"), ({"stream": "yes"}, 400, "switch-expected", "stream"),
    ({"n": 2}, 400, "parameter-one-value", "n"), ({"frequency_penalty": 1}, 400, "parameter-one-value",
                                                 "frequency_penalty"),
    ({"n": True}, 400, "parameter-one-value", "n"),
    ({"tools": [{}]}, 400, "parameter-one-value", "tools"), ({"tempreature": 1}, 400, "parameter-unknown",
                                                             "tempreature"),
    ({"top_logprobs": 2}, 400, "top-logprobs-alone", "top_logprobs"),
    ({"logprobs": True, "top_logprobs": 6}, 400, "whole-number-out-of-range", "top_logprobs"),
    ({"stream_options": {"x": 1}}, 400, "stream-options", "stream_options")])
def test_what_cannot_be_had_is_refused_in_the_forms_own_way(v1, body, status, code, param):
    found, answer = asked(v1, **body)
    error = answer["error"]
    assert (found, error["code"], error["param"]) == (status, code, param)
    assert error["type"] == "invalid_request_error" and error["message"] != code != error["message_zh"]


@pytest.mark.parametrize("body, code", [(b"{", "body-not-json"), (b"\xff", "body-not-json"), (b"[]", "body-expected"),
                                        (b'{"model": "a", "model": "b"}', "body-not-json")])
def test_what_is_no_json_object_is_refused(v1, body, code):
    answer = v1.post("/v1/chat/completions", content=body)
    assert answer.status_code == 400 and answer.json()["error"]["code"] == code


def streamed(v1, **body) -> list[dict]:
    answer = v1.post("/v1/chat/completions", json={"model": "lens", "messages": USER, "stream": True, **body})
    assert answer.headers["content-type"].startswith("text/event-stream")
    *lines, end = [line.removeprefix("data: ") for line in answer.text.splitlines() if line]
    return [json.loads(line) for line in (lines if end == "[DONE]" else [*lines, end])]


def test_a_stream_is_chunks_and_ends_with_its_counts(v1):
    first, *middle, last, counts = streamed(v1, stream_options={"include_usage": True})
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert "".join(c["choices"][0]["delta"]["content"] for c in middle) == f"lens: {MOTTO}"
    assert last["choices"][0]["finish_reason"] == "stop" and not last["choices"][0]["delta"]
    assert counts["choices"] == [] and counts["usage"]["completion_tokens"] == 20
    assert len({c["id"] for c in (first, *middle, last, counts)}) == 1


def test_what_fails_is_told_before_and_within_a_stream(stand_in):
    class Failing(StandInEngine):
        late = False

        def ask(self, *args, **kwargs):
            stream = super().ask(*args, **kwargs)
            if self.late:
                yield next(stream)
                yield next(stream)
                yield from list(stream)[:1]
            raise Unavailable("question-out-of-memory")

    engine = Failing(loaded("lens"), says=lambda question, variant: ("half", None))
    v1 = TestClient(Starlette(routes=OpenAiApi(engine).routes()))
    for stream in (False, True):
        status, answer = asked(v1, stream=stream)
        assert (status, answer["error"]["code"], answer["error"]["type"]) == (503, "question-out-of-memory",
                                                                             "server_error")
    engine.late = True
    *_, text, last = streamed(v1)
    assert text["choices"][0]["delta"] == {"content": "half"} and last["error"]["code"] == "question-out-of-memory"


def test_more_than_the_line_holds_are_told_so(stand_in):
    api = OpenAiApi(stand_in, most=1)
    v1 = TestClient(Starlette(routes=api.routes()))
    api.under_way = 1
    status, answer = asked(v1)
    assert status == 429 and answer["error"]["code"] == "line-full"
    api.under_way = 0
    assert asked(v1)[0] == 200 and api.under_way == 0


@pytest.mark.parametrize("said, stop, text, tokens", [
    ("一二三四", ["三"], "一二", 3), ("一二三四", ["三四", "二三"], "一", 3), ("一二三四", ["四五"], "一二三四", 4),
    ("一", ["一"], "", 1)])
def test_a_stop_text_ends_the_answer_before_it(said, stop, text, tokens):
    """Grown a token at a time, so that what might begin a stop text is held back."""
    class Slow(StandInEngine):
        def ask(self, *args, **kwargs):
            for event in super().ask(*args, **kwargs):
                grown = getattr(event, "grown", ())
                yield from [type(event)(0, (one,)) for one in grown] or [event]

    engine = Slow(says=lambda question, variant: (said, "length"))
    completion = Completion(engine, ChatRequest.of(engine, {"model": "base", "messages": USER, "stop": stop}))
    pieces = list(completion.pieces())
    assert "".join(pieces) == text == completion.said and not [p for p in pieces if any(s in p for s in stop)]
    assert completion.finish_reason == ("stop" if any(s in said for s in stop) else "length")
    assert len(completion.ids) == tokens and engine.cancelled.is_set()


# ---- the real engine


def test_log_probabilities_are_those_of_the_answer_under_that_column(engine):
    body = {"model": "lens", "messages": USER, "max_tokens": 6, "logprobs": True, "top_logprobs": 2}
    found = Completion(engine, ChatRequest.of(engine, body)).whole()
    *_, [column] = compare(engine, Question(MOTTO), [Variant.of("lens")], Sampling(6))
    scored = engine.score(column.prompt_ids, [column.token_ids], BASE, Variant.of("lens"))[0]
    content = found["choices"][0]["logprobs"]["content"]
    assert [c["logprob"] for c in content] == [p.adapted.log_probability for p in scored] and len(content) == 6
    assert b"".join(bytes(c["bytes"]) for c in content).decode(errors="replace").startswith(column.text)
    assert all(len(c["top_logprobs"]) == 2 and c["top_logprobs"][0]["logprob"] == pytest.approx(c["logprob"], abs=1e-4)
               for c in content)  # greedy: the likeliest was taken
    *_, last = Completion(engine, ChatRequest.of(engine, body)).chunks()
    assert last["choices"][0]["logprobs"]["content"] == content


# ---- the real page, by OpenAI's own client


@pytest.fixture(scope="module")
def openai(address):
    openai = pytest.importorskip("openai")
    return openai.OpenAI(base_url=f"{address}v1", api_key="none", max_retries=0, timeout=120)


def test_openais_client_lists_asks_and_streams(openai, engine):
    assert [m.id for m in openai.models.list()][:2] == ["base", "lens"]
    assert openai.models.retrieve("lens@0.5").id == "lens@0.5"
    for model, variant in (("base", BASE), ("lens", Variant.of("lens")), ("lens@0.5", Variant.of("lens", 0.5))):
        *_, [right] = compare(engine, Question(MOTTO, "请"), [variant], Sampling(12))
        messages = [{"role": "system", "content": "请"}, *USER]
        whole = openai.chat.completions.create(model=model, messages=messages, max_tokens=12)
        assert whole.choices[0].message.content == right.text and whole.usage.completion_tokens == len(right.token_ids)
        assert whole.choices[0].finish_reason == right.finish_reason
        assert whole.usage.prompt_tokens == len(right.prompt_ids)
        chunks = list(openai.chat.completions.create(model=model, messages=messages, max_tokens=12, stream=True,
                                                     stream_options={"include_usage": True}))
        assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == right.text
        assert chunks[-1].usage == whole.usage


def test_openais_client_reads_our_errors(openai):
    import openai as package

    with pytest.raises(package.NotFoundError) as caught:
        openai.chat.completions.create(model="nobody", messages=USER)
    assert caught.value.code == "model-unknown" and "lens" in caught.value.body["message"]
    with pytest.raises(package.BadRequestError) as caught:
        openai.chat.completions.create(model="lens", messages=USER, temperature=99)
    assert (caught.value.code, caught.value.param) == ("number-out-of-range", "temperature")
    with pytest.raises(package.BadRequestError) as caught:
        openai.chat.completions.create(model="lens", messages=[*USER, {"role": "assistant", "content": "a"}, *USER])
    assert caught.value.code == "messages-roles" and caught.value.body["message_zh"]


def test_who_leaves_is_no_longer_answered(openai, address):
    """Streaming and not: the batch is empty again long before 1,500 tokens are made; greedy, this base never ends."""
    import httpx
    import openai as package

    def columns() -> int:
        return httpx.get(f"{address}health").json()["batch"]["columns"]

    def until(wanted: bool) -> None:
        began = time.monotonic()
        while (columns() > 0) is not wanted:
            assert time.monotonic() - began < 20, f"columns: {columns()}"
            time.sleep(0.05)

    long = {"model": "base", "messages": USER, "max_tokens": 1500, "temperature": 0}
    stream = openai.chat.completions.create(**long, stream=True)
    next(iter(stream))
    until(True)
    stream.close()
    until(False)
    with pytest.raises(package.APITimeoutError):
        openai.with_options(timeout=1.0).chat.completions.create(**long)
    until(False)


def test_two_programs_are_answered_side_by_side(openai):
    answers: dict[str, str] = {}

    def ask(model: str) -> None:
        found = openai.chat.completions.create(model=model, messages=USER, max_tokens=16)
        answers[model] = found.choices[0].message.content

    threads = [threading.Thread(target=ask, args=(model,)) for model in ("base", "lens")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(answers) == 2 and answers["base"] != answers["lens"]
