"""Any server that speaks OpenAI's API as a column beside ours: another program's answer to the same question.

It is in no batch of ours and nothing of it is proven. Whatever goes wrong with it stays in its column.
"""

from __future__ import annotations

import argparse
import json
import os
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httpx

from compare.engine.interface import Question, Sampling
from compare.event_log import event
from lens.chat import valid_text
from lens.errors import BadSetting, LensError, Unavailable, first_line

SILENCE, LONGEST = 30.0, 300.0  # seconds without a word, and altogether, after which it is given up
LARGEST = 1 << 20  # bytes of one line, characters of one answer
REASONS = ("stop", "length")


def endpoint(text: str) -> tuple[str, str]:
    """An argparse type: NAME=URL as a pair, the URL without its last slash."""
    name, _, url = text.partition("=")
    if not name or urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
        raise argparse.ArgumentTypeError(f"{text[:80]!r}; allowed: NAME=URL, such as vllm=http://127.0.0.1:8000/v1")
    return name[:80], url.rstrip("/")


@dataclass
class EndpointColumn:
    """One answer of an endpoint as it grows; `pieces`: how many came, which are no tokens of ours."""

    name: str
    url: str
    model: str = ""
    text: str = ""
    pieces: int = 0
    finish_reason: str | None = None
    error: LensError | None = None
    seconds: float = 0.0

    @property
    def over(self) -> bool:
        return bool(self.error or self.finish_reason)

    def as_dict(self) -> dict:
        return {"endpoint": self.name, "url": self.url, "model": self.model, "text": self.text,
                "finish_reason": self.finish_reason, "seconds": round(self.seconds, 3), "in_this_batch": False,
                **({"error": self.error.as_dict()} if self.error else {})}


@dataclass(frozen=True)
class Endpoint:
    """`model`: None for the first that the server lists."""

    name: str
    url: str
    model: str | None = None
    key: str | None = field(default=None, repr=False)
    silence: float = SILENCE
    longest: float = LONGEST

    @classmethod
    def all_of(cls, args: argparse.Namespace, environ: Mapping[str, str] = os.environ) -> tuple[Endpoint, ...]:
        """Those of the options. Raises BadSetting for a key's variable that is not set, and for a name given twice."""
        names, variable = [name for name, _ in args.endpoint], args.endpoint_key_env
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise BadSetting("endpoint-twice", name=twice)
        if variable and not environ.get(variable):
            raise BadSetting("endpoint-key-missing", name=variable[:80])
        key = environ[variable] if variable else None
        return tuple(cls(name, url, args.endpoint_model, key) for name, url in args.endpoint)

    def ask(self, question: Question, sampling: Sampling, left: threading.Event) -> EndpointColumn:
        """A column that grows in a thread of its own until its answer is over, or `left` is set."""
        column = EndpointColumn(self.name, self.url, self.model or "")
        threading.Thread(target=self.fill, args=(column, question, sampling, left), daemon=True).start()
        return column

    def fill(self, column: EndpointColumn, question: Question, sampling: Sampling, left: threading.Event) -> None:
        began = time.monotonic()
        try:
            for piece, reason in self.pieces(column, question, sampling):
                column.text, column.pieces = column.text + piece, column.pieces + bool(piece)
                column.seconds = time.monotonic() - began
                if left.is_set():
                    column.finish_reason = "cancelled"
                elif column.seconds > self.longest:
                    raise Unavailable("endpoint-silent", name=self.name, seconds=f"{self.longest:g}")
                elif len(column.text) > LARGEST:
                    raise Unavailable("endpoint-nonsense", name=self.name, value=repr(column.text[:40]))
                else:
                    column.finish_reason = reason
                if column.finish_reason:
                    return
            raise Unavailable("endpoint-broke-off", name=self.name)
        except LensError as err:
            column.error = err
        except httpx.TimeoutException:
            column.error = Unavailable("endpoint-silent", name=self.name, seconds=f"{self.silence:g}")
        except httpx.RemoteProtocolError:
            column.error = Unavailable("endpoint-broke-off", name=self.name)
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as err:
            column.error = Unavailable("endpoint-unreachable", name=self.name, url=self.url[:200],
                                       reason=first_line(err))
        except Exception as err:
            column.error = Unavailable("endpoint-nonsense", name=self.name, value=repr(first_line(err))[:80])
        finally:
            if column.error:
                event("failed", endpoint=self.name, reason=str(column.error))

    def pieces(self, column: EndpointColumn, question: Question,
               sampling: Sampling) -> Iterator[tuple[str, str | None]]:
        """Yield (text, why it ended or None) for each line, many of which say nothing. Raises what httpx raises, and
        Unavailable for what is no such answer."""
        system = [{"role": "system", "content": question.instruction}] if question.instruction else []
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        with httpx.Client(headers=headers, timeout=self.silence) as client:
            column.model = column.model or self.first_model(client)
            asked = {"model": column.model, "messages": [*system, {"role": "user", "content": question.text}],
                     "max_tokens": sampling.max_new_tokens, "temperature": sampling.temperature,
                     "top_p": sampling.top_p, "seed": sampling.seed, "stream": True}
            with client.stream("POST", f"{self.url}/chat/completions", json=asked) as answer:
                self.check(answer)
                for line in lines(answer):
                    data = line.removeprefix(b"data:").strip()
                    if data == b"[DONE]":
                        yield "", "stop"  # some servers say no reason before
                    yield self.read(data) if line.startswith(b"data:") else ("", None)

    def first_model(self, client: httpx.Client) -> str:
        answer = client.get(f"{self.url}/models")
        self.check(answer)
        try:
            return str(answer.json()["data"][0]["id"])[:200]
        except (ValueError, LookupError, TypeError) as err:
            raise Unavailable("endpoint-nonsense", name=self.name, value=repr(answer.text[:60])) from err

    def check(self, answer: httpx.Response) -> None:
        if answer.status_code != 200:
            said = next(answer.iter_bytes(), b"") if not answer.is_stream_consumed else answer.content
            raise Unavailable("endpoint-refused", name=self.name, status=answer.status_code,
                              said=repr(said[:200].decode("utf-8", "replace")))

    def read(self, data: bytes) -> tuple[str, str | None]:
        """One chunk's text and finish reason."""
        try:
            chunk = json.loads(data)
            if "error" in chunk:
                raise Unavailable("endpoint-refused", name=self.name, status=200, said=repr(chunk["error"])[:200])
            [choice] = chunk["choices"] or [{"delta": {}}]
            text, reason = choice["delta"].get("content") or "", choice.get("finish_reason")
            return valid_text(text), reason and (reason if reason in REASONS else "length")
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as err:
            if isinstance(err, LensError):
                raise
            raise Unavailable("endpoint-nonsense", name=self.name, value=repr(data[:60])) from err


def lines(answer: httpx.Response) -> Iterator[bytes]:
    """Its lines; one that never ends is given up."""
    rest = b""
    for part in answer.iter_bytes():
        *whole, rest = (rest + part).split(b"\n")
        yield from whole
        if len(rest) > LARGEST:
            raise ValueError("a line without an end")
    if rest:
        yield rest


def add_endpoint_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--endpoint", nargs="+", type=endpoint, metavar="NAME=URL", default=[],
                        help="a server that speaks OpenAI's API, as a column beside ours: vllm=http://127.0.0.1:8000/v1")
    parser.add_argument("--endpoint-model", metavar="M", help="the model to ask there (default: its first)")
    parser.add_argument("--endpoint-key-env", metavar="VAR", help="the variable that holds the key for it")
