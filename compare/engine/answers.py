"""An engine's events as growing columns, for whoever shows or keeps whole answers. No torch.

    for columns in compare(engine, Question("…")):     # one question, again and again while its columns grow
    for index, columns in answer_all(engine, questions):   # many at once, each when it is finished
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from compare.analysis.repetition import Loop, find_loop, seq_rep
from compare.engine.interface import Asked, Ended, Engine, Grown, Question, Sampling, Step, Variant
from compare.event_log import QuestionLog
from lens.errors import LensError


@dataclass
class Column:
    """One variant's answer. `finish_reason` is None while it grows; `seconds` of wall time since the question was put.

    `end_probability`: at each step, how likely `</s>` was, the last step's included; ids that were given had no step.
    """

    variant: Variant
    decode: Callable[[list[int]], str] = field(repr=False, default=lambda ids: "")
    token_ids: list[int] = field(default_factory=list)
    finish_reason: str | None = None
    seconds: float = 0.0
    end_probability: list[float] = field(default_factory=list)
    prompt_ids: tuple[int, ...] = ()

    @property
    def text(self) -> str:
        """A token may end inside a UTF-8 character: what is not whole yet is not shown."""
        return self.decode(self.token_ids).rstrip("\ufffd")

    @property
    def loop(self) -> Loop | None:
        return find_loop(self.token_ids)

    def add(self, grown: Grown, seconds: float) -> None:
        """Take one step's news in."""
        self.seconds = seconds
        if grown.token is not None:
            self.token_ids.append(grown.token)
        if grown.end_probability is not None:
            self.end_probability.append(grown.end_probability)
        self.finish_reason = grown.finish_reason

    def as_dict(self) -> dict[str, Any]:
        """The contract's fields of a column, and of one that was not asked in the chat format the form, of one that is
        a part of its adapter the layers and modules."""
        loop = self.loop
        return {"variant": self.variant.name, "adapter": self.variant.adapter, "strength": self.variant.strength,
                "text": self.text, "token_ids": self.token_ids, "finish_reason": self.finish_reason,
                "tokens": len(self.token_ids), "seconds": round(self.seconds, 3),
                "repetition": {"seq_rep_4": seq_rep(self.token_ids), "loop": loop and vars(loop)},
                "end_probability": [round(p, 6) for p in self.end_probability],
                **({"prompt": self.variant.prompt} if self.variant.prompt != "chat" else {}), **self.variant.part}


def growing(engine: Engine, questions: Sequence[Question], variants: Sequence[Variant] | None, sampling: Sampling,
            cancelled: threading.Event | None) -> Iterator[tuple[int, list[Column], Ended | None]]:
    """Yield (which question, its columns, how it ended, if it did) after each event but the first."""
    began, width = time.monotonic(), len(variants or engine.variants())
    columns: dict[int, list[Column]] = {}
    logs = {which: QuestionLog(question.text, width) for which, question in enumerate(questions)}
    stream = engine.ask(questions, variants, sampling, cancelled)
    failure: Exception | None = None
    try:
        for event in stream:
            which = event.question
            match event:
                case Asked():
                    columns[which] = [Column(v, engine.tokens.decode, list(sampling.prefix_ids), prompt_ids=ids)
                                      for v, ids in zip(event.variants, event.prompt_ids, strict=True)]
                case Step():
                    for grown in event.grown:
                        columns[which][grown.column].add(grown, time.monotonic() - began)
                    yield which, columns[which], None
                case Ended():
                    logs.pop(which).end(columns[which], event.error)
                    yield which, columns.pop(which), event
    except Exception as err:
        failure = err
        raise
    finally:
        for which, log in logs.items():
            log.end(columns.get(which, ()), failure)
        stream.close()


def compare(engine: Engine, question: Question, variants: Sequence[Variant] | None = None,
            sampling: Sampling = Sampling(), cancelled: threading.Event | None = None) -> Iterator[list[Column]]:
    """Yield all columns as they grow, the last time with every `finish_reason` set.

    A slow reader misses steps, never tokens. Raises what `Engine.ask` raises or a question's `Ended` holds; leaving
    the iterator cancels.
    """
    for _, columns, ended in growing(engine, [question], variants, sampling, cancelled):
        if ended and ended.error:
            raise ended.error
        if not ended:  # the step that ends it showed the same
            yield columns


def answer_all(engine: Engine, questions: Sequence[Question], variants: Sequence[Variant] | None = None,
               sampling: Sampling = Sampling()) -> Iterator[tuple[int, list[Column]]]:
    """Yield (index of the question, its finished columns) as they finish, many at once in the batch.

    Raises BadQuestion before the first answer for a question that cannot be put, and what ends one later.
    """
    for which, columns, ended in growing(engine, questions, variants, sampling, None):
        if ended and ended.error:
            raise ended.error
        if ended:
            yield which, columns


def answer_each(engine: Engine, questions: Sequence[Question], variants: Sequence[Variant],
                sampling: Sampling = Sampling()) -> Iterator[tuple[int, list[Column] | LensError]]:
    """Yield (index of the question, its finished columns or what is wrong with it): one that cannot be answered does
    not end the others. Raises the first one's error where none can be put."""
    wrong: dict[int, LensError] = {}
    for index, question in enumerate(questions):
        try:
            engine.prompts(question, variants, sampling)
        except LensError as err:
            wrong[index] = err
    good = [index for index in range(len(questions)) if index not in wrong]
    if not good:
        raise wrong[0]
    yield from wrong.items()
    for which, columns, ended in growing(engine, [questions[index] for index in good], variants, sampling, None):
        if ended and isinstance(ended.error, LensError):
            yield good[which], ended.error
        elif ended and ended.error:
            raise ended.error
        elif ended:
            yield good[which], columns
