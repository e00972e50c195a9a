"""Another server as a column beside ours: our own `/v1`, and one that is slow, breaks off or answers nonsense."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import gradio as gr
import pytest
from one_tab import StandInEngine, loaded

from app import parse
from bench.shared.served import free_port
from compare.engine.interface import Question, Sampling
from compare.page.compare.answering import Answering
from compare.page.shared.request import ComparisonRequest
from compare.server.endpoint import Endpoint
from compare.server.launch import Serving
from compare.server.running_answers import Run
from lens.errors import BadSetting

CHUNK = {"choices": [{"index": 0, "delta": {"content": "半"}, "finish_reason": None}]}

SAYS = {"html": b"data: <html>\n", "list": b"data: []\n", "number": b"data: 3\n", "endless": b"x" * (3 << 20),
        "error": b'data: {"error": {"message": "down"}}\n', "type": b'data: {"choices": [{"delta": 7}]}\n',
        "nothing": b""}  # "breaks": a chunk and no end


class Mock(BaseHTTPRequestHandler):
    """What it does is the first part of its path."""

    def do_GET(self):
        self.say(b'{"data": []}' if "nomodels" in self.path else b'{"data": [{"id": "first"}]}')

    def say(self, body: bytes, status: int = 200):
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        kind, chunk = self.path.split("/")[1], f"data: {json.dumps(CHUNK)}\n\n".encode()
        if kind == "echo":
            said = json.dumps([asked, self.headers["authorization"]], ensure_ascii=False)
            end = {"choices": [{"delta": {"content": said}, "finish_reason": "stop"}]}
            self.say(f": hello\n\ndata: {json.dumps(end)}\n\ndata: [DONE]\n\n".encode())
        elif kind == "slow":
            self.say(chunk)
            time.sleep(3)
        elif kind == "pings":
            self.say(chunk)
            for _ in range(30):
                self.wfile.write(b": ping\n\n")
                time.sleep(0.1)
        elif kind == "done":
            self.say(chunk + b"data: [DONE]\n\n")
        elif kind == "refuses":
            self.say(b'{"error": {"message": "no <b>key</b>"}}', 401)
        else:
            self.say(SAYS.get(kind, chunk))

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def mock():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Mock)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def finished(column, seconds: float = 10):
    began = time.monotonic()
    while not column.over:
        assert time.monotonic() - began < seconds
        time.sleep(0.01)
    return column


def asked(url: str, **options):
    endpoint = Endpoint("other", url, **options)
    return finished(endpoint.ask(Question("校训？", "请"), Sampling(9, 0.5, 0.9, 3), threading.Event()))


def test_it_is_asked_what_the_engine_is_asked_with_its_key(mock):
    column = asked(f"{mock}/echo/v1", key="secret")
    sent, key = json.loads(column.text)
    assert key == "Bearer secret" and column.model == sent["model"] == "first" and column.finish_reason == "stop"
    assert sent["messages"] == [{"role": "system", "content": "请"}, {"role": "user", "content": "校训？"}]
    assert (sent["max_tokens"], sent["temperature"], sent["top_p"], sent["seed"]) == (9, 0.5, 0.9, 3)
    assert json.loads(asked(f"{mock}/echo/v1", model="named").text)[0]["model"] == "named"


@pytest.mark.parametrize("kind, code", [
    ("breaks", "endpoint-broke-off"), ("nothing", "endpoint-broke-off"), ("html", "endpoint-nonsense"),
    ("list", "endpoint-nonsense"), ("number", "endpoint-nonsense"), ("type", "endpoint-nonsense"),
    ("endless", "endpoint-nonsense"), ("nomodels", "endpoint-nonsense"), ("error", "endpoint-refused"),
    ("refuses", "endpoint-refused"), ("slow", "endpoint-silent")])
def test_what_goes_wrong_with_it_is_told_by_a_code(mock, kind, code):
    column = asked(f"{mock}/{kind}/v1", silence=0.5)
    assert column.error.code == code and column.finish_reason is None and column.error.zh != str(column.error)
    assert column.text == ("半" if kind in ("breaks", "slow") else "")


def test_one_that_only_says_that_it_is_there_is_given_up_and_a_bare_end_is_an_end(mock):
    column = asked(f"{mock}/pings/v1", silence=5, longest=0.5)
    assert column.error.code == "endpoint-silent" and column.text == "半" and column.seconds < 2
    column = asked(f"{mock}/done/v1")
    assert (column.text, column.finish_reason, column.error) == ("半", "stop", None)


def test_a_server_that_is_not_there_is_told():
    assert asked(f"http://127.0.0.1:{free_port()}/v1").error.code == "endpoint-unreachable"


def test_its_faults_stay_in_its_column_and_ours_are_answered(mock):
    engine = StandInEngine(loaded("lens"), says=lambda question, variant: (f"said by {variant.name}", "stop"))
    endpoints = [Endpoint("<i>mine", f"{mock}/refuses/v1", "m"), Endpoint("echo", f"{mock}/echo/v1", "m")]
    *_, last = Answering(engine, {}, endpoints=endpoints).stream(ComparisonRequest("校训？", ""), Run())
    assert 'data-text="said by base"' in last and 'data-text="said by lens"' in last
    assert last.count(">not in this batch, nothing proven<") == 2 and 'data-count="4"' in last
    assert 'id="endpoint-0" data-state="error"' in last and 'id="endpoint-1" data-state="stop"' in last
    assert "<i>mine" not in last and "<b>key" not in last and "endpoint-refused" in last  # in the download


def test_stop_ends_an_endpoint_that_still_writes(mock):
    engine, run = StandInEngine(loaded("lens")), Run()
    stream = Answering(engine, {}, endpoints=[Endpoint("slow", f"{mock}/slow/v1", "m")]).stream(
        ComparisonRequest("校训？"), run)
    for drawing in stream:
        if 'data-text="lens"' in drawing and "半" in drawing:
            run.cancelled.set()
            break
    began, (*_, last) = time.monotonic(), stream
    assert 'id="endpoint-0" data-state="cancelled"' in last and time.monotonic() - began < 2


def test_our_own_v1_is_such_an_endpoint():
    engine = StandInEngine(loaded("lens"), says=lambda question, variant: (f"{variant.name}: {question}", "stop"))
    with gr.Blocks() as page:
        pass
    Serving(port=free_port(), auth=("me", "secret")).launch(page, engine, prevent_thread_lock=True, quiet=True)
    try:
        column = asked(f"{page.local_url}v1", model="lens@0.5", key="me:secret")
        assert (column.text, column.finish_reason, column.error) == ("lens@0.5: 校训？", "stop", None)
        assert asked(f"{page.local_url}v1").error.code == "endpoint-refused"
        assert asked(f"{page.local_url}v1", model="nobody", key="me:secret").error.code == "endpoint-refused"
    finally:
        page.close()


def test_the_options_are_read_and_checked():
    args = parse(["--endpoint", "a=http://x:1/v1/", "b=https://y/v1", "--endpoint-model", "m",
                  "--endpoint-key-env", "K"])
    assert Endpoint.all_of(args, {"K": "k"}) == (Endpoint("a", "http://x:1/v1", "m", "k"),
                                                 Endpoint("b", "https://y/v1", "m", "k"))
    assert "'k'" not in repr(Endpoint.all_of(args, {"K": "k"}))
    with pytest.raises(BadSetting, match="K, which is to hold"):
        Endpoint.all_of(args, {})
    twice = SimpleNamespace(endpoint=[("a", "u"), ("a", "v")], endpoint_model=None, endpoint_key_env=None)
    with pytest.raises(BadSetting, match="given twice"):
        Endpoint.all_of(twice, {})
    for bad in ("a", "=http://x", "a=x", "a=file:///etc/passwd"):
        with pytest.raises(SystemExit):
            parse(["--endpoint", bad])
