"""From an engine's growing columns to updates of the page: not too many, the last one always, errors as drawings.

    for columns in paced(engine.compare(…), run):
        yield draw(columns)

`updates` runs such a generator for one visitor.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn, TypeVar

import gradio as gr

from compare.event_log import BROKEN, with_sentence
from compare.page.frame.words import Words
from compare.server.running_answers import Run, Runs
from lens.errors import LensError

BETWEEN = 1 / 40  # seconds between two drawings of one answer, at the least
SHARE = 3  # times as long as the last drawing took, until it was on its way: a crowd sets its own pace
CHECK = "请检查 Please check"
Update = TypeVar("Update")


def paced(columns: Iterator[Sequence], run: Run | None = None) -> Iterator[Sequence]:
    """The columns at most 40 times a second, more seldom where drawing takes long, and the last time; no more once the
    visitor has asked again."""
    due, shown, latest = 0.0, True, None
    for latest in columns:
        if run and run.superseded:
            return
        if shown := (began := time.monotonic()) >= due:
            yield latest
            due = began + max(BETWEEN, SHARE * (time.monotonic() - began))
    if latest is not None and not shown:
        yield latest


def updates(start: Callable[[Run], Iterator[Update]], problem: Callable[[LensError], Update],
            runs: Runs | None = None, request: gr.Request | None = None,
            asked_at: float | None = None) -> Iterator[Update]:
    """What `start` yields, and what goes wrong as one more update.

    With `runs` it is the visitor's one answer: an earlier one, by `asked_at`, ends, and Stop ends this one. An error
    without a sentence is raised on, for the log, once the visitor has been told.
    """
    run = runs.begin(request.session_hash or "" if request else "", asked_at) if runs else Run()
    try:
        if not run.superseded:
            yield from start(run)
        if run.superseded:
            yield gr.skip()  # Gradio sends the last update twice, which could cover the newer answer's
    except LensError as err:
        yield problem(err)
    except Exception as err:
        yield problem(with_sentence(err))
        raise
    finally:
        run.end()


def notify(error: LensError) -> NoReturn:
    """A refusal as Gradio's own message, for views that keep what they show."""
    raise gr.Error(str(Words.of(error)), title=CHECK, print_exception=error.code == BROKEN)
