"""One answer in OpenAI's form: pieces of text as they come, then why it ended, what it took, how likely it was."""

from __future__ import annotations

import math
import secrets
import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from threading import Event

from compare.engine.answers import Column, compare
from compare.engine.interface import BASE, Engine
from compare.server.openai_api.chat_request import ChatRequest

LEAST = -9999.0  # stands for the logarithm of 0, as OpenAI has it


@dataclass
class Completion:
    """An answer as it grows. `ids`: the tokens it holds; `said`: its text so far, as far as no stop text can begin
    there."""

    engine: Engine
    asked: ChatRequest
    cancelled: Event = field(default_factory=Event)
    id: str = field(default_factory=lambda: f"chatcmpl-{secrets.token_hex(12)}")
    created: int = field(default_factory=lambda: int(time.time()))
    said: str = ""
    ids: list[int] = field(default_factory=list)
    prompt_ids: tuple[int, ...] = ()
    finish_reason: str | None = None

    def pieces(self) -> Iterator[str]:
        """Yield the text as it grows; setting `cancelled` ends it. Raises what the engine raises."""
        asked = self.asked
        for [column] in compare(self.engine, asked.question, [asked.variant], asked.sampling, self.cancelled):
            if new := self.take(column):
                yield new
            if self.finish_reason:
                return
        self.finish_reason = "length"  # it was ended before anything came

    def take(self, column: Column) -> str:
        """What can be said of the column beyond what was said."""
        self.prompt_ids, self.ids = column.prompt_ids, list(column.token_ids)
        text, reason = column.text, column.finish_reason
        found = [at for stop in self.asked.stop if (at := text.find(stop)) >= 0]
        if found:
            text, reason = text[:min(found)], "stop"
            self.ids = shortest(column, self.asked.stop)
        elif reason is None:
            text = text[:len(text) - beginning(text, self.asked.stop)]
        if not text.startswith(self.said):  # the last characters are not yet what they will be
            text = self.said
        new, self.said = text[len(self.said):], text
        self.finish_reason = reason and ("stop" if reason == "stop" else "length")
        return new

    def usage(self) -> dict:
        before, made = len(self.prompt_ids), len(self.ids)
        return {"prompt_tokens": before, "completion_tokens": made, "total_tokens": before + made}

    def logprobs(self) -> dict | None:
        """Each token's log-probability and rivals under the model at temperature 1; None where not asked for."""
        rivals = self.asked.rivals
        if rivals is None:
            return None

        def entry(token_id: int, text: str, value: float) -> dict:
            return {"token": text, "logprob": value, "bytes": list(self.engine.tokens.bytes_of(token_id))}

        [scored] = self.engine.score(self.prompt_ids, [self.ids], BASE, self.asked.variant) if self.ids else [()]
        return {"content": [{**entry(p.token_id, p.text, p.adapted.log_probability),
                             "top_logprobs": [entry(c.token_id, c.text, math.log(c.probability) if c.probability
                                                    else LEAST) for c in p.adapted.top[:rivals]]} for p in scored],
                "refusal": None}

    def whole(self) -> dict:
        """The answer at once, when it has ended."""
        for _ in self.pieces():
            pass
        message = {"role": "assistant", "content": self.said, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": self.logprobs(), "finish_reason": self.finish_reason}
        return {**self.head("chat.completion"), "choices": [choice], "usage": self.usage()}

    def chunks(self) -> Iterator[dict]:
        """The answer as it grows; the log-probabilities come with its end, when the answer is scored."""
        yield self.chunk({"role": "assistant", "content": ""})
        for piece in self.pieces():
            yield self.chunk({"content": piece})
        yield self.chunk({}, self.finish_reason, self.logprobs())
        if self.asked.usage:
            yield {**self.head("chat.completion.chunk"), "choices": [], "usage": self.usage()}

    def chunk(self, delta: dict, finish_reason: str | None = None, logprobs: dict | None = None) -> dict:
        choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}
        return {**self.head("chat.completion.chunk"), "choices": [choice]}

    def head(self, kind: str) -> dict:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.asked.model,
                "system_fingerprint": f"seed-{self.asked.sampling.seed}"}


def beginning(text: str, stops: Sequence[str]) -> int:
    """How many characters at the text's end a stop text may begin with."""
    return max((n for stop in stops for n in range(1, len(stop)) if text.endswith(stop[:n])), default=0)


def shortest(column: Column, stops: Sequence[str]) -> list[int]:
    """The column's first tokens in which a stop text stands, in as few as hold it: a slow reader has more."""
    def holds(count: int) -> bool:
        text = column.decode(column.token_ids[:count])
        return any(stop in text for stop in stops)

    return column.token_ids[:bisect_left(range(len(column.token_ids)), True, key=holds)]
