"""The engine on a Space that lends a GPU for each question (ZeroGPU): answers there, everything else on the processor.

There a decorated function runs in a worker forked from this process, with a GPU that only the worker sees; arguments
and what it yields are pickled. So the model is loaded here on the processor, where the receipts are made, and moved in
the worker.
"""

from __future__ import annotations

import contextvars
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from queue import SimpleQueue

import torch

from compare.engine.ask import Ask
from compare.engine.engine import Engine
from compare.engine.interface import Grown, Sampling, Variant
from compare.engine.model_thread import Owner

START, PER_TOKEN, LONGEST = 10, 0.05, 120  # seconds: to move the model, of a token, at most


def seconds(question: str, instruction: str, variants: Sequence[Variant], sampling: Sampling) -> int:
    """For how long a question asks for the GPU; a shorter wish waits less in ZeroGPU's line."""
    return min(LONGEST, START + int(PER_TOKEN * sampling.max_new_tokens))


class ZeroGpuEngine(Engine):
    """`lend`: the decorator, `spaces.GPU`. bfloat16 unless told otherwise, which the GPUs there have."""

    def __init__(self, lend: Callable[..., Callable], base: str, adapter: Sequence[str], dtype: str = "auto",
                 timeline: Sequence[str] = ()):
        super().__init__(base, adapter, "cpu", "bfloat16" if dtype == "auto" else dtype, threaded=False,
                         timeline=timeline)
        self.process = os.getpid()
        self.lent = lend(duration=seconds)(self.answer)  # the one entry that computes on a GPU

    def begin(self, base_model, max_rows: int, threaded: bool) -> None:
        """Whoever asks here waits for what a worker sends; the one who computes uses `Owner.take`."""
        super().begin(base_model, max_rows, threaded)
        self.owner.take = lambda inbox: inbox.get()  # type: ignore[method-assign]  # of this one owner

    def submit(self, question: str, instruction: str, variants: Sequence[Variant], sampling: Sampling,
               inbox: SimpleQueue, cancelled: threading.Event | None = None) -> Ask:
        """Put a question to a worker. Raises BadQuestion here, before a GPU is asked for."""
        ask = self.checked(question, instruction, variants, sampling, inbox, cancelled)
        visitor = contextvars.copy_context()  # by which ZeroGPU knows whose time it is
        threading.Thread(target=visitor.run, args=(self.follow, ask, question, instruction), daemon=True).start()
        return ask

    def follow(self, ask: Ask, question: str, instruction: str) -> None:
        """Hand on what the worker's rows grow, until the last has finished or the visitor has left."""
        growing, stream = set(range(len(ask.variants))), self.lent(question, instruction, ask.variants, ask.sampling)
        try:
            for news in stream:
                ask.inbox.put((ask, news))
                growing -= {grown.column for grown in news if grown.finish_reason}
                if ask.cancelled.is_set() and growing:
                    stream.close()
                    return ask.inbox.put((ask, [Grown(i, None, None, "cancelled") for i in sorted(growing)]))
        except Exception as err:  # noqa: BLE001 (no GPU in time, a worker that died: whoever asked must hear of it)
            ask.inbox.put((ask, err))

    def answer(self, question: str, instruction: str, variants: Sequence[Variant],
               sampling: Sampling) -> Iterator[list[Grown]]:
        """In the worker: yield what the columns grow, step by step."""
        self.settle()
        inbox: SimpleQueue = SimpleQueue()
        ask, left = super().submit(question, instruction, variants, sampling, inbox), len(variants)
        try:
            while left:
                _, news = Owner.take(self.owner, inbox)
                if isinstance(news, Exception):
                    raise news
                left -= sum(grown.finish_reason is not None for grown in news)
                yield news
        finally:
            ask.cancelled.set()

    def settle(self) -> None:
        """A worker's first question: the model to its GPU, and a batch and locks of its own."""
        if self.process == os.getpid():
            return
        self.process = os.getpid()
        if torch.cuda.is_available():
            self.device, self.model = "cuda", self.model.to("cuda")
        else:
            torch.set_num_threads(1)  # a pool of threads does not survive a fork
        base = self.model.get_base_model() if self.adapters else self.model
        self.begin(base, self.line.room.most, threaded=False)
