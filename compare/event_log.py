"""What happens to questions, one line an event, by the standard library's logging: asked, finished, cancelled, refused.

No text of a question is in a line unless `listen(questions=True)` asked for it. Silent until `listen` is called: a
library tells, an entry point decides.
"""

from __future__ import annotations

import itertools
import logging
import sys
import time
from collections.abc import Sequence
from typing import Any, TextIO

from lens.errors import LensError, Unavailable

log = logging.getLogger("lens")
numbers = itertools.count(1)
BROKEN = "answer-broken"  # the code of what has no sentence of its own


class Lines(logging.Formatter):
    """UTC time, event and `name=value`; text is escaped, so that nobody's question can write a line of its own."""

    converter = staticmethod(time.gmtime)

    def __init__(self, questions: bool):
        super().__init__("%(asctime)sZ %(message)s", "%Y-%m-%dT%H:%M:%S")
        self.questions = questions

    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        question = getattr(record, "question", None)
        return f"{line} question={question!r}" if self.questions and question is not None else line


def listen(questions: bool = False, stream: TextIO | None = None) -> None:
    """Write events to `stream` (default: stderr), with the questions' text where asked for."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(Lines(questions))
    log.handlers, log.propagate = [handler], False
    log.setLevel(logging.INFO)


def event(name: str, question: str | None = None, **facts: object) -> None:
    """Tell of one event. `question` is kept apart from the line, for those who asked to see it."""
    if log.isEnabledFor(logging.INFO):
        shown = " ".join(f"{key}={value!r}" if isinstance(value, str) else f"{key}={value}"
                         for key, value in facts.items())
        log.info("%s %s", name, shown, extra={"question": question})


def with_sentence(err: Exception) -> LensError:
    """`err`, or, for one that has no sentence of its own, a sentence that says so; the log has what it was."""
    if isinstance(err, LensError):
        return err
    event("failed", kind=type(err).__name__, reason=str(err)[:200])
    return Unavailable(BROKEN)


class QuestionLog:
    """The events of one question, from being asked to how it ended; `width`: its columns."""

    def __init__(self, question: str, width: int):
        self.number, self.began, self.width = next(numbers), time.monotonic(), width
        event("asked", question, id=self.number, columns=width, characters=len(question))

    def end(self, columns: Sequence[Any], error: BaseException | None = None) -> None:
        """How it ended: `finished`, `cancelled` (or left), `refused` (in a sentence) or `failed`."""
        facts: dict[str, Any] = {"id": self.number, "columns": self.width,
                                 "tokens": sum(len(c.token_ids) for c in columns),
                                 "seconds": round(time.monotonic() - self.began, 3)}
        reasons = [c.finish_reason or "left" for c in columns] or ["left"]
        if isinstance(error, LensError):
            event("refused", **facts, reason=str(error))
        elif error:
            event("failed", **facts, reason=type(error).__name__)
        else:
            name = "cancelled" if {"left", "cancelled"} & set(reasons) else "finished"
            event(name, **facts, reasons=",".join(reasons))
