"""One copy of a BLOOM, every column of every question a row of one running batch.

The way of one question: `compare` (text → prompt ids) → the waiting line → the batch, a step at a time →
columns, read by whoever asked. A single thread owns the model (`owner.py`). Knows nothing of who asks.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from functools import lru_cache
from queue import SimpleQueue

import torch
from torch import Tensor

from compare.adapters import AdapterFiles, attach, check_base, find_adapter, read_adapters
from compare.batch import Batch
from compare.bloom import Bloom
from compare.column import Ask, Column, Grown
from compare.errors import BadAdapter, BadQuestion
from compare.gate import BASE, Variant, gate_of, stack
from compare.load import load_base
from compare.owner import Owner
from compare.prompt import Prompt
from compare.questions import Question
from compare.receipt import Receipt, base_logits, receipt
from compare.sampling import Sampling

__all__ = ["BASE", "Column", "Engine", "Variant"]
# Parameters; below, the threads of one step wait for one another longer than they work (bench/README.md).
SMALL = 30_000_000
WINDOW = 2048  # tokens; what BLOOM was trained on, though ALiBi itself has no limit


class Engine:
    """One base with any number of adapters, and the only code that runs it.

    `adapter`: a directory, several, or None; `timeline`: more of them, loaded but shown only when asked for.
    `max_rows`: columns that advance together; more wait in line. `threaded=False`: no thread of its own, the one
    who reads does the work.
    """

    def __init__(self, base: str, adapter: str | Sequence[str] | None = None, device: str = "auto",
                 dtype: str = "auto", max_rows: int = 64, threaded: bool = True, timeline: Sequence[str] = ()):
        """Load. Raises BadBase or BadAdapter before anything runs."""
        paths = [adapter] if isinstance(adapter, str) else list(adapter or [])
        self.adapters: dict[str, AdapterFiles] = read_adapters([find_adapter(p) for p in (*paths, *timeline)])
        self.shown = list(self.adapters)[:len(paths)]
        check_base(base, self.adapters.values())
        loaded = load_base(base, device, dtype)
        self.base_name, self.device, self.dtype = loaded.name, loaded.device, loaded.dtype
        self.tokenizer, self.prompt = loaded.tokenizer, Prompt(loaded.tokenizer)
        self.parameters, self.window = loaded.model.num_parameters(), WINDOW
        if self.device == "cpu" and self.parameters < SMALL:
            torch.set_num_threads(1)
        self.model = loaded.model
        if self.adapters:
            untouched = base_logits(loaded.model)
            self.model = attach(loaded.model, list(self.adapters.values())).to(self.device)
        self.bloom = Bloom(loaded.model)
        self.stack_of = lru_cache(8)(lambda names: stack(self.model, names))
        self.max_rows, self.waiting = max_rows, deque()
        self.batch = Batch(self.bloom, self.stack_of, self.tokenizer.eos_token_id)
        self.owner = Owner(self.work, threaded)
        self.receipts: dict[str, Receipt] = {}
        for name, files in self.adapters.items():
            self.receipts[name] = receipt(self, files, untouched)
            if self.receipts[name].problem and not self.receipts[name].changes_anything:
                raise BadAdapter(str(self.receipts[name].problem))

    @property
    def files(self) -> AdapterFiles | None:
        """The first adapter."""
        return next(iter(self.adapters.values()), None)

    def variants(self, strengths: Sequence[float] = (1.0,)) -> list[Variant]:
        """Base first, then every adapter at each strength, the timeline's left out."""
        return [BASE] + [Variant.of(name, s) for name in self.shown for s in strengths]

    def work(self) -> bool:
        """Let one waiting question in, if there is room, then one step; True while there is more to do."""
        with torch.inference_mode():
            try:
                if self.waiting and len(self.batch.rows) + len(self.waiting[0].variants) <= max(
                        self.max_rows, len(self.waiting[0].variants)):
                    self.batch.join(self.waiting.popleft())
                self.batch.step()
            except Exception as err:  # noqa: BLE001 (every question in the batch must hear of it)
                self.batch.abandon(err)
        return bool(self.batch.rows or self.waiting)

    def submit(self, question: str, instruction: str, variants: Sequence[Variant], sampling: Sampling,
               inbox: SimpleQueue, cancelled: threading.Event | None = None) -> Ask:
        """Put a question in line. Raises BadQuestion for an empty one or one longer than the window."""
        prompt = self.prompt.encode(question, instruction)
        if len(prompt) + sampling.max_new_tokens > self.window:
            raise BadQuestion(f"the question is {len(prompt)} tokens long and the answer may have "
                              f"{sampling.max_new_tokens}; together at most {self.window} are allowed")
        ask = Ask(prompt, variants, sampling, inbox, cancelled)
        self.waiting.append(ask)
        self.owner.wake.set()
        return ask

    def compare(self, question: str, instruction: str = "", variants: Sequence[Variant] | None = None,
                sampling: Sampling = Sampling(), cancelled: threading.Event | None = None) -> Iterator[list[Column]]:
        """Yield all columns as they grow, the last time with every `finish_reason` set.

        A slow reader misses steps, never tokens. Raises BadQuestion; leaving the iterator cancels.
        """
        columns, inbox, began = self.columns(variants), SimpleQueue(), time.monotonic()
        ask = self.submit(question, instruction, [c.variant for c in columns], sampling, inbox, cancelled)
        try:
            while not all(c.finish_reason for c in columns):
                self.put(columns, self.owner.take(inbox)[1], began)
                while not inbox.empty():
                    self.put(columns, inbox.get()[1], began)
                yield columns
        finally:
            ask.cancelled.set()

    def answer_all(self, questions: Sequence[Question], variants: Sequence[Variant] | None = None,
                   sampling: Sampling = Sampling()) -> Iterator[tuple[int, list[Column]]]:
        """Yield (index of the question, its finished columns) as they finish, many at once in the batch.

        Raises BadQuestion before the first answer.
        """
        inbox, began = SimpleQueue(), time.monotonic()
        asks = {}
        try:
            for index, question in enumerate(questions):
                columns = self.columns(variants)
                asks[self.submit(question.text, question.instruction, [c.variant for c in columns], sampling,
                                 inbox)] = index, columns
            while asks:
                ask, news = self.owner.take(inbox)
                index, columns = asks[ask]
                self.put(columns, news, began)
                if all(c.finish_reason for c in columns):
                    del asks[ask]
                    yield index, columns
        finally:
            for ask in asks:
                ask.cancelled.set()

    def columns(self, variants: Sequence[Variant] | None) -> list[Column]:
        return [Column(v, self.decode) for v in (variants or self.variants())]

    def decode(self, ids: list[int]) -> str:
        return self.tokenizer.decode(ids, skip_special_tokens=True)

    def put(self, columns: list[Column], news: list[Grown] | Exception, began: float) -> None:
        """Add one step's news to the columns. Raises what ended the batch."""
        if isinstance(news, Exception):
            raise news
        for grown in news:
            column = columns[grown.column]
            column.seconds = time.monotonic() - began
            if grown.token is not None:
                column.token_ids.append(grown.token)
            if grown.end_probability is not None:
                column.end_probability.append(grown.end_probability)
            column.finish_reason = grown.finish_reason

    def states(self, rows: Sequence[Sequence[int]], variants: Sequence[Variant]) -> Tensor:
        """(rows, longest, hidden) last hidden states of row i under variants[i], in one forward.

        Rows are padded on the right, which a causal model never looks at.
        """
        longest = max(map(len, rows))
        pad = self.tokenizer.pad_token_id
        ids = torch.tensor([list(row) + [pad] * (longest - len(row)) for row in rows], device=self.device)

        def read() -> Tensor:
            with torch.inference_mode():
                return self.bloom.read(ids, gate_of(variants, self.stack_of))

        return self.owner.call(read)

    def logits(self, states: Tensor) -> Tensor:
        """(…, hidden) → (…, vocabulary) in float32; give it few positions at once, the vocabulary is wide."""
        def project() -> Tensor:
            with torch.inference_mode():
                return self.bloom.logits(states)

        return self.owner.call(project)
