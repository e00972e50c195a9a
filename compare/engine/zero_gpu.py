"""The engine on a Space that lends a GPU for each question (ZeroGPU): answers there, everything else on the processor.

There a decorated function runs in a worker forked from this process, with a GPU that only the worker sees; arguments
and what it yields are pickled. So the model is loaded here on the processor, where the receipts are made, and moved in
the worker.
"""

from __future__ import annotations

import contextvars
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch

from compare.analysis.adapter_norms import Anatomy
from compare.analysis.layer_lens import ByLayer
from compare.analysis.token_shift import Position
from compare.engine.interface import GivenAnswer, Grown, Load, LoadedAdapter, Question, Sampling, Step, Variant
from compare.engine.local import LocalEngine
from compare.engine.open_question import OpenQuestion
from compare.engine.shared_engine import SharedEngine, answered_by
from lens.errors import Note

START, PER_TOKEN, LONGEST = 10, 0.05, 120  # seconds: to move the model, of a token, at most


def seconds(question: Question, variants: Sequence[Variant], sampling: Sampling) -> int:
    """For how long a question asks for the GPU; a shorter wish waits less in ZeroGPU's line."""
    return min(LONGEST, START + int(PER_TOKEN * sampling.max_new_tokens))


class ZeroGpuEngine(SharedEngine):
    """`lend`: the decorator, `spaces.GPU`. bfloat16 unless told otherwise, which the GPUs there have."""

    def __init__(self, lend: Callable[..., Callable[..., Any]], base: str, adapter: Sequence[str], dtype: str = "auto",
                 timeline: Sequence[str] = (), chat_template: str = ""):
        self.here = LocalEngine(base, adapter, "cpu", "bfloat16" if dtype == "auto" else dtype, threaded=False,
                                timeline=timeline, chat_template=chat_template)
        self.tokens, self.shown, self.process = self.here.tokens, self.here.shown, os.getpid()
        self.facts, self.abilities = self.here.facts, self.here.abilities - {"load-adapters"}
        self.lent = lend(duration=seconds)(self.answer)  # the one entry that computes on a GPU

    @property
    def adapters(self) -> Mapping[str, LoadedAdapter]:
        return self.here.adapters

    @property
    def notes(self) -> Sequence[Note]:
        return self.here.notes

    def begin(self, question: OpenQuestion) -> None:
        """Put a question to a worker, which is lent only now that it was checked."""
        self.here.check_open()
        visitor = contextvars.copy_context()  # by which ZeroGPU knows whose time it is
        threading.Thread(target=visitor.run, args=(self.follow, question), daemon=True).start()

    def follow(self, question: OpenQuestion) -> None:
        """Hand on what the worker's rows grow, until the last has finished or the visitor has left."""
        try:
            stream = self.lent(question.question, question.variants, question.sampling)
            answered_by(question, stream, stream.close)
        except Exception as err:  # noqa: BLE001 (no GPU in time, a worker that died: whoever asked must hear of it)
            question.fail(err)

    def answer(self, question: Question, variants: Sequence[Variant], sampling: Sampling) -> Iterator[list[Grown]]:
        """In the worker: yield what the columns grow, step by step."""
        self.settle()
        for event in self.here.ask([question], variants, sampling):
            if isinstance(event, Step):
                yield list(event.grown)
            elif error := getattr(event, "error", None):
                raise error

    def settle(self) -> None:
        """A worker's first question: the model to its GPU, and a batch and locks of its own."""
        if self.process == os.getpid():
            return
        self.process = os.getpid()
        if torch.cuda.is_available():
            self.here.loaded.move("cuda")
        else:
            torch.set_num_threads(1)  # a pool of threads does not survive a fork
            self.here.loaded.reread()
        self.here.start(self.here.max_rows, threaded=False)

    def load(self) -> Load:
        return self.here.load()

    def score(self, prompt_ids: Sequence[int], answers: Sequence[Sequence[int]], base: Variant,
              adapted: Variant) -> list[tuple[Position, ...]]:
        return self.here.score(prompt_ids, answers, base, adapted)

    def log_likelihoods(self, given: Sequence[GivenAnswer]) -> list[float]:
        return self.here.log_likelihoods(given)

    def by_layer(self, given: GivenAnswer, positions: Sequence[int]) -> ByLayer:
        return self.here.by_layer(given, positions)

    def adapter_norms(self, name: str) -> Anatomy:
        return self.here.adapter_norms(name)

    def adapter_pairs(self, names: Sequence[str]) -> dict[str, Any]:
        return self.here.adapter_pairs(names)

    def close(self) -> None:
        self.here.close()
