"""The page's API over plain HTTP, as a stranger's script speaks it: any bytes, any path, gone at any moment."""

from __future__ import annotations

import http.client
import json
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


def ask(
    port: int, method: str, path: str, body: bytes | None = None, headers: dict | None = None, limit: int = 1 << 20
) -> Answer:
    """One request, its path sent as it is; at most `limit` bytes of the body are read."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.putrequest(method, path, skip_host=bool(headers and "Host" in headers), skip_accept_encoding=True)
        for name, value in {
            **({"Content-Length": str(len(body))} if body is not None else {}),
            **(headers or {}),
        }.items():
            connection.putheader(name, value)
        connection.endheaders(body)
        response = connection.getresponse()
        found = {k.lower(): v for k, v in response.getheaders()}
        endless = found.get("content-type", "").startswith("text/event-stream")
        return Answer(response.status, found, b"" if endless else response.read(limit))
    finally:
        connection.close()


LAST = ("process_completed", "close_stream", "unexpected_error", "server_stopped")


def events(port: int, data: list, fn_index: int, patience: float = 60) -> Iterator[dict]:
    """Join the queue and yield its messages, for `patience` seconds at most; leaving closes the connection at once."""
    session, ends = uuid.uuid4().hex, time.monotonic() + patience
    call = json.dumps({"data": data, "session_hash": session, "fn_index": fn_index}).encode()
    joined = ask(port, "POST", "/gradio_api/queue/join?", call, {"Content-Type": "application/json"})
    if joined.status != 200:
        yield {"msg": "refused", "status": joined.status, "said": joined.body.decode(errors="replace")}
        return
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=patience)
    try:
        connection.request("GET", f"/gradio_api/queue/data?session_hash={session}")
        response = connection.getresponse()
        while time.monotonic() < ends and (line := response.readline()):
            if not line.startswith(b"data:"):
                continue
            yield (event := json.loads(line[5:]))
            if event["msg"] in LAST:
                return
    finally:
        connection.close()


def endpoint(port: int, name: str = "compare") -> int:
    """The number by which the queue knows an API endpoint."""
    config = json.loads(ask(port, "GET", "/config", limit=1 << 26).body)
    return next(d["id"] for d in config["dependencies"] if d["api_name"] == name)


def through_wire(port: int, number: int, text: str) -> str:
    """Ask for one token of an answer: `answered`, or what the visitor is told.

    Escaped JSON, as a script may send it, carries texts that gradio_client cannot encode.
    """
    *_, last = events(port, [text, "", [1.0], 1, 0.0, 1.0, 0, None], number)
    if last.get("success"):
        answer = next(iter(last.get("output", {}).get("data") or []), None)
        return answer["error"]["message"] if isinstance(answer, dict) and "error" in answer else "answered"
    said = last.get("output", {}).get("error") or last.get("said") or last.get("message")
    return said or "an error without a sentence"
