"""Who is answered: by host name, origin, address and size; as rules alone, and in front of a real Gradio page."""

from __future__ import annotations

import json
import threading
import time
from types import SimpleNamespace

import gradio as gr
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from one_tab import StandInEngine, loaded
from starlette.datastructures import Headers

from app import parse
from bench.shared.served import free_port
from compare.server.launch import Serving
from compare.server.request_filter import ENVELOPE, UPLOADS_AN_HOUR, RequestFilter, Rules, name_of

LOCAL = ["localhost", "localhost:7860", "LOCALHOST.:7860", "127.0.0.1:7860", "127.8.0.1", "[::1]:7860", "[::1]"]
FOREIGN = ["evil.example", "evil.example:7860", "localhost.evil.example", "127.0.0.1.evil.example", "evil@localhost",
           "localhost@evil.example", "", "localhost/", "[::1", "0x7f.1", "10.0.0.1", "localhost:1:2", "x localhost"]


def refused(rules: Rules, method: str = "GET", path: str = "/", **headers: str) -> int | None:
    """The status of the refusal, None where it is let in."""
    given = {"host": "localhost:7860", "content-length": "2", **headers}
    found = rules.refusal(method, path, Headers({k.replace("_", "-"): v for k, v in given.items()}))
    return found and found.status


def test_loopback_answers_under_its_own_names_alone():
    assert [h for h in LOCAL if refused(Rules(), host=h)] == []
    assert [h for h in FOREIGN if refused(Rules(), host=h) != 400] == []
    two = Headers(raw=[(b"host", b"localhost"), (b"host", b"evil.example")])
    assert Rules().refusal("GET", "/", two).status == 400
    assert Rules().refusal("GET", "/", Headers()).status == 400


@given(st.text(max_size=40))
def test_no_text_passes_for_a_host_name_that_it_is_not(text):
    name = name_of(text)
    assert name in text.lower() and not set(name) & set("@/?#\\ ")


def test_names_that_are_given_are_answered_too_and_their_subdomains_by_a_star():
    rules = Rules(hosts=("lens.example.org", "*.example.net"))
    let_in = ["lens.example.org:80", "a.example.net", "a.b.example.net", *LOCAL]
    assert [h for h in let_in if refused(rules, host=h)] == []
    assert [h for h in ("example.net", "aexample.net", "example.org", *FOREIGN) if not refused(rules, host=h)] == []
    assert [h for h in FOREIGN[:3] if refused(Rules(hosts=("*",)), host=h)] == []
    assert refused(Rules(numbers=True), host="10.0.0.1:80") is None and refused(Rules(numbers=True), host="a.b") == 400


@pytest.mark.parametrize("origin, status", [
    ("http://localhost:7860", None), ("HTTP://LOCALHOST:7860", None), ("https://localhost:7860", None),
    ("http://localhost:3000", 403), ("http://localhost", 403), ("http://127.0.0.1:7860", 403),
    ("http://evil.example", 403), ("null", 403), ("", 403), ("http://localhost:7860.evil.example", 403)])
def test_only_the_page_itself_may_post(origin, status):
    assert refused(Rules(), "POST", "/gradio_api/queue/join", origin=origin) == status
    assert refused(Rules(), "GET", "/config", origin=origin) is None  # reading is the browser's to forbid


def test_a_page_behind_a_proxy_posts_under_the_name_it_was_given():
    rules = Rules(hosts=("lens.example.org",), origins=("lens.example.org",))
    join = {"method": "POST", "path": "/gradio_api/queue/join"}
    assert refused(rules, **join, host="127.0.0.1:7860", origin="https://lens.example.org") is None
    assert refused(rules, **join, host="lens.example.org", origin="https://evil.example") == 403


SHUT = ["/gradio_api/upload", "/gradio_api/upload_progress", "/gradio_api/proxy=http://x/", "/gradio_api/dev/reload",
        "/gradio_api/vibe-edit", "/gradio_api/vibe-code", "/gradio_api/deep_link", "/gradio_api/process_recording",
        "/gradio_api/token", "/gradio_api/custom_component/0/client/component", "/monitoring", "/monitoring/summary",
        "/runs", "/gradio_api/run-history/records", "/docs", "/file=/etc/passwd", "/gradio_api", "//etc/passwd",
        "/gradio_api/queue=x", "/gradio_api/next-years-address", "/next-years-address"]
OPEN = ["/", "/config", "/theme.css", "/assets/x.js", "/static/img/logo.svg", "/gradio_api/queue/join", "/health",
        "/gradio_api/queue/data", "/gradio_api/heartbeat/x", "/gradio_api/call/compare", "/gradio_api/info",
        "/gradio_api/file=/tmp/gradio/x/votes.csv", "/gradio_api/file=C:/votes.csv", "/login", "/gradio_api/mcp/"]


def test_addresses_that_nothing_needs_are_shut():
    assert [path for path in SHUT if refused(Rules(), path=path) != 404] == []
    assert [path for path in OPEN if refused(Rules(), path=path)] == []
    for url in ("http://10.0.0.1/", "https://example.org/x", " HTTP://x", "ftp://x", "file:///etc/passwd", "data:x"):
        assert refused(Rules(), path=f"/gradio_api/file={url}") == 403, url
    assert refused(Rules(upload=1), path="/gradio_api/upload") is None


def test_what_is_sent_has_a_size_that_is_said_and_allowed():
    join, upload = "/gradio_api/queue/join", "/gradio_api/upload"
    rules = Rules(body=2, upload=5)
    assert refused(rules, "POST", join, content_length="2000000") is None
    assert refused(rules, "POST", join, content_length="2000001") == 413
    assert refused(rules, "POST", upload, content_length=str(5_000_000 + ENVELOPE)) is None
    assert refused(rules, "POST", upload, content_length=str(5_000_001 + ENVELOPE)) == 413
    assert {refused(rules, "POST", join, content_length=bad) for bad in ("", "-1", "1e9", "²")} == {411}


def test_uploads_of_an_hour_are_numbered():
    now = [0.0]
    requests = RequestFilter(None, Rules(upload=1), clock=lambda: now[0])
    asked = [requests.too_many("POST", "/gradio_api/upload") for _ in range(UPLOADS_AN_HOUR + 1)]
    assert not any(asked[:-1]) and asked[-1].status == 429
    now[0] = 3601
    assert requests.too_many("POST", "/gradio_api/upload") is None


# ---- in front of Gradio itself


@pytest.fixture(scope="module")
def served():
    """(address, engine, launch) of a small page behind the filter; `launch(Serving)` serves another."""
    pages = []

    def launch(serving: Serving) -> SimpleNamespace:
        with gr.Blocks() as page:
            text = gr.Textbox()
            text.submit(lambda t: t * 2, text, text, api_name="double")
        engine = StandInEngine(loaded("lens"))
        serving.launch(page, engine, prevent_thread_lock=True, quiet=True)
        pages.append(page)
        return SimpleNamespace(url=page.local_url, engine=engine, page=page)

    yield launch
    for page in pages:
        page.close()


@pytest.fixture(scope="module")
def local(served):
    return served(Serving(port=free_port(), allow_training=False, allow_loading=False))


def call(at, **headers: str) -> httpx.Response:
    return httpx.post(f"{at.url}gradio_api/call/double", json={"data": ["ab"]},
                      headers={k: v for k, v in headers.items() if v})


def test_the_page_works_behind_its_doors_and_strangers_do_not(local):
    from gradio_client import Client

    assert Client(local.url, verbose=False).predict("ab", api_name="/double") == "abab"
    own = local.url.rstrip("/")
    assert call(local, origin=own).status_code == 200
    foreign = call(local, origin="http://evil.example")  # or the page's own, behind a proxy that was not named to it
    assert foreign.status_code == 403 and "--allowed-hosts" in foreign.json()["detail"]  # which Gradio's script shows
    rebound = call(local, host="evil.example", origin="http://evil.example")
    assert rebound.status_code == 400 and "--allowed-hosts" in rebound.text
    for path in ("", "config", "health", "gradio_api/queue/data?session_hash=x", "gradio_api/heartbeat/x"):
        assert httpx.get(local.url + path, headers={"host": "evil.example"}).status_code == 400, path
    assert httpx.get(local.url + "gradio_api/dev/reload").status_code == 404
    assert httpx.post(local.url + "gradio_api/upload", files={"files": b"a"}).status_code == 404
    assert httpx.get(local.url + "gradio_api/file=https://example.org/").status_code == 403


def test_the_page_is_sent_compressed_to_those_who_take_it(local):
    """0.8 MB of configuration over a slow line took 3.5 seconds."""
    plain, packed = (httpx.get(local.url, headers={"Accept-Encoding": how}) for how in ("identity", "gzip"))
    assert "content-encoding" not in plain.headers and packed.headers["content-encoding"] == "gzip"
    assert int(packed.headers["content-length"]) < len(packed.text) / 3
    assert "gradio_config" in packed.text and "gradio_config" in plain.text


def test_trap_a_full_line_is_told_by_503_and_the_log(served, monkeypatch):
    """Gradio: a full queue is HTTP 503; whoever it meets reads a sentence, and the next one after it is served."""
    told = []
    monkeypatch.setattr("compare.server.request_filter.event",
                        lambda what, **about: told.append({"what": what, **about}))
    at, go = served(Serving(port=free_port(), queue=1, allow_training=False, allow_loading=False)), threading.Event()
    waiting = next(fn for fn in at.page.fns.values() if fn.api_name == "double")
    monkeypatch.setattr(waiting, "fn", lambda text: go.wait(30) and text)

    def ask(session: str) -> httpx.Response:
        asked = {"data": ["a"], "fn_index": waiting._id, "session_hash": session}
        return httpx.post(at.url + "gradio_api/queue/join", json=asked)

    assert ask("under way").status_code == 200
    while not any(at.page._queue.active_jobs):
        time.sleep(0.01)
    assert ask("waiting").status_code == 200
    full = ask("one too many")
    assert full.status_code == 503 and "full" in full.json()["detail"]
    assert told == [{"what": "refused", "status": 503, "reason": "the line is full"}]
    go.set()
    while at.page._queue.event_ids_to_events:
        time.sleep(0.01)
    assert ask("later").status_code == 200


def test_uploads_are_open_where_training_is_and_end_at_their_size(served):
    at = served(Serving(port=free_port(), max_upload_mb=0.1, allow_training=True))
    small, large = ({"files": ("rows.jsonl", b"a" * n)} for n in (1000, 110_000))
    assert httpx.post(at.url + "gradio_api/upload", files=small).status_code == 200
    assert httpx.post(at.url + "gradio_api/upload", files=large).status_code == 413


def test_a_password_is_asked_for_and_a_foreign_page_cannot_use_it(served):
    at = served(Serving(port=free_port(), auth=("me", "secret")))
    with httpx.Client(base_url=at.url) as browser:
        assert browser.get("config").status_code == 401
        assert browser.post("login", data={"username": "me", "password": "wrong"}).status_code == 400
        assert browser.post("login", data={"username": "me", "password": "secret"}).status_code == 200
        asked = {"json": {"data": ["ab"]}}
        assert browser.post("gradio_api/call/double", **asked).status_code == 200
        assert browser.post("gradio_api/call/double", **asked, headers={"origin": "http://evil.example"}
                            ).status_code == 403


def test_the_root_path_is_passed_on(served):
    at = served(Serving(port=free_port(), root_path="/lens"))
    assert json.loads(httpx.get(at.url + "config").text)["root"].endswith("/lens")


# ---- options


def serving(*argv: str) -> Serving:
    return Serving.of(parse(list(argv)))


def test_rules_follow_from_where_the_page_listens(monkeypatch):
    for name in ("GRADIO_SERVER_NAME", "SPACE_ID", "SPACE_HOST", "LENS_AUTH"):
        monkeypatch.delenv(name, raising=False)
    assert serving().rules() == Rules(upload=8) and serving("--queue", "3").queue == 3
    assert serving("--host", "0.0.0.0").rules() == Rules(("*",), numbers=True)
    named = serving("--host", "0.0.0.0", "--allowed-hosts", "lens.example.org", "--auth", "me:a:b")
    assert named.rules().hosts == named.rules().origins == ("lens.example.org",) and named.auth == ("me", "a:b")
    shared = serving("--share", "--max-body-mb", "1").rules()
    assert shared == Rules(("*.gradio.live",), ("*.gradio.live",), 1)
    monkeypatch.setenv("GRADIO_SERVER_NAME", "0.0.0.0")
    monkeypatch.setenv("SPACE_ID", "me/lens")
    monkeypatch.setenv("SPACE_HOST", "me-lens.hf.space")
    assert serving().rules() == Rules(("*",), ("me-lens.hf.space",), numbers=True)


@pytest.mark.parametrize("argv, said", [
    (["--auth", "nocolon"], "allowed: USER:PASSWORD"), (["--queue", "0"], "a number from 1 on"),
    (["--allowed-hosts", "http://x"], "is no host name"), (["--allowed-hosts", "x:80"], "is no host name"),
    (["--allowed-hosts", "a*b"], "is no host name"), (["--max-body-mb", "inf"], "a number from 0.01 on")])
def test_options_that_cannot_be_are_told(argv, said, capsys):
    with pytest.raises(SystemExit) as ended:
        parse(argv)
    told = capsys.readouterr().err
    assert ended.value.code == 2 and told.startswith("error: ") and said in told and told.count("\n") == 1
