"""The addresses of OpenAI's form beside the page's own: streamed by server-sent events or whole, errors in its form.

Whoever leaves is no longer answered: the connection is watched while the engine works.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from anyio import CapacityLimiter, create_task_group, to_thread
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from compare.engine.interface import Engine
from compare.event_log import with_sentence
from compare.server.openai_api.chat_request import ChatRequest, model_names, variant_of
from compare.server.openai_api.completion import Completion
from lens.errors import BadSetting, LensError, Unavailable
from lens.strict_json import dumps, loads

Found = TypeVar("Found")
STATUS = {"model-unknown": 404, "address-unknown": 404, "login-missing": 401, "line-full": 429}  # others: 400, 503
UNBUFFERED = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


def in_its_form(err: Exception) -> dict:
    """An error as OpenAI's clients read it, with our code, and the Chinese sentence beside."""
    found = with_sentence(err)
    kind, name = "server_error" if isinstance(found, Unavailable) else "invalid_request_error", found.values.get("name")
    return {"error": {**found.as_dict(), "type": kind, "param": name if isinstance(name, str) else None}}


def said(value: dict, status: int = 200, **headers: str) -> Response:
    return Response(dumps(value), status, headers, "application/json")


def refused(err: Exception, **headers: str) -> Response:
    usual = (503 if isinstance(err, Unavailable) else 400) if isinstance(err, LensError) else 500
    return said(in_its_form(err), STATUS.get(err.code, usual) if isinstance(err, LensError) else usual, **headers)


def server_sent(chunk: dict) -> str:
    return f"data: {dumps(chunk)}\n\n"


@dataclass
class OpenAiApi:
    """`most`: answers under way and in line at once; the next is told so."""

    engine: Engine
    most: int = 64
    began: int = field(default_factory=lambda: int(time.time()))
    under_way: int = 0
    threads: CapacityLimiter | None = None  # apart from those that draw the page

    def routes(self) -> list[Route]:
        return [Route("/v1/models", self.models), Route("/v1/models/{name:path}", self.model),
                Route("/v1/chat/completions", self.complete, methods=["POST"]),
                Route("/v1/{rest:path}", self.nothing, methods=["GET", "POST", "PUT", "PATCH", "DELETE"])]

    def as_model(self, name: str) -> dict:
        return {"id": name, "object": "model", "created": self.began, "owned_by": self.engine.facts.base_name}

    async def models(self, request: Request) -> Response:
        return said({"object": "list", "data": [self.as_model(name) for name in model_names(self.engine)]})

    async def model(self, request: Request) -> Response:
        try:
            variant_of(self.engine, request.path_params["name"])
        except LensError as err:
            return refused(err)
        return said(self.as_model(request.path_params["name"]))

    async def nothing(self, request: Request) -> Response:
        return refused(BadSetting("address-unknown", address=repr(request.url.path)[:80]))

    async def complete(self, request: Request) -> Response:
        if self.under_way >= self.most:
            return refused(Unavailable("line-full", most=self.most))
        try:
            body = await request.body()
            asked = ChatRequest.of(self.engine, read(body))
        except LensError as err:
            return refused(err)
        completion = Completion(self.engine, asked)
        self.under_way += 1
        try:
            if not asked.stream:
                return said(await self.watched(request, completion, completion.whole))
            chunks = completion.chunks()
            beginning = [next(chunks), await self.watched(request, completion, partial(next, chunks))]
        except Exception as err:
            return refused(err)
        finally:
            self.under_way -= 1
        return StreamingResponse(self.stream(completion, beginning, chunks), media_type="text/event-stream",
                                 headers=UNBUFFERED)

    async def stream(self, completion: Completion, beginning: list[dict], rest: Iterator[dict]) -> AsyncIterator[str]:
        """What has come, and what comes; Starlette ends it when the client has gone."""
        self.under_way += 1
        try:
            for chunk in beginning:
                yield server_sent(chunk)
            while chunk := await self.in_thread(partial(next, rest, None)):
                yield server_sent(chunk)
            yield "data: [DONE]\n\n"
        except Exception as err:
            yield server_sent(in_its_form(err))
        finally:
            completion.cancelled.set()
            self.under_way -= 1

    async def in_thread(self, work: Callable[[], Found]) -> Found:
        self.threads = self.threads or CapacityLimiter(self.most)
        return await to_thread.run_sync(work, limiter=self.threads, abandon_on_cancel=True)

    async def watched(self, request: Request, completion: Completion, work: Callable[[], Found]) -> Found:
        """What the work returns; the answer is cancelled where the client goes before that."""
        async def watch() -> None:
            while (await request.receive())["type"] != "http.disconnect":
                pass
            completion.cancelled.set()

        try:
            async with create_task_group() as group:
                group.start_soon(watch)
                found = await self.in_thread(work)
                group.cancel_scope.cancel()
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return found


def read(body: bytes) -> object:
    """Raises BadSetting for what is no JSON."""
    try:
        return loads(body.decode("utf-8"))
    except (ValueError, RecursionError) as err:
        raise BadSetting("body-not-json", reason=str(err)[:120]) from err
