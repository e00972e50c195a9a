"""One copy of a BLOOM, every column of every question a row of one running batch.

The way of one question: `compare` (text → prompt ids) → the waiting line → the batch, a step at a time →
columns, read by whoever asked. A single thread owns the model (`owner.py`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from queue import SimpleQueue

import torch
from torch import Tensor

from compare.engine.ask import Ask
from compare.engine.batch import Batch
from compare.engine.event_log import Told
from compare.engine.interface import BASE, PLAIN, Column, Grown, Load, Sampling, Variant
from compare.engine.lora_rows import gate_of, stack
from compare.engine.model_thread import ENDED, GONE, Owner
from compare.engine.queue import Line
from compare.engine.receipt import Receipt, base_logits, receipt
from compare.models.bloom import Bloom
from compare.questions import Question
from lens.adapter_dir import AdapterFiles, check_base, read_adapters, unique
from lens.adapter_peft import attach
from lens.base import load_base
from lens.chat import Prompt
from lens.errors import BadQuestion, Unavailable

__all__ = ["BASE", "PLAIN", "Column", "Engine", "Variant"]
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
        given = read_adapters([*paths, *timeline])
        self.adapters: dict[str, AdapterFiles] = {files.name: files for files in given}
        self.shown = [files.name for files in given[:len(paths)]]
        self.notes = [note for files in self.adapters.values() for note in files.notes]
        self.notes += check_base(base, self.adapters.values())
        loaded = load_base(base, device, dtype)
        self.base = base
        self.base_name, self.device, self.dtype = loaded.name, loaded.device, loaded.dtype
        self.tokenizer, self.prompt = loaded.tokenizer, Prompt(loaded.tokenizer)
        self.parameters, self.window = loaded.model.num_parameters(), WINDOW
        self.model = loaded.model
        self.untouched = base_logits(loaded.model)  # before any adapter: what a receipt proves the base row by
        if self.adapters:
            self.model = attach(loaded.model, list(self.adapters.values())).to(self.device)
        self.begin(loaded.model, max_rows, threaded)
        self.receipts: dict[str, Receipt] = {}
        for name, files in self.adapters.items():
            self.receipts[name] = receipt(self, files, self.untouched)
            self.receipts[name].check()

    def begin(self, base_model, max_rows: int, threaded: bool) -> None:
        """An empty batch over the weights, where they are now, and its owner."""
        self.bloom = Bloom(base_model)
        self.stack_of = lru_cache(8)(lambda names: stack(self.model, names))
        self.batch = Batch(self.bloom, self.stack_of, self.tokenizer.eos_token_id)
        self.line = Line(self.batch, max_rows)
        self.waiting = self.line.waiting
        self.owner = Owner(self.line.work, threaded, self.line.fallen)

    @property
    def files(self) -> AdapterFiles | None:
        """The first adapter."""
        return next(iter(self.adapters.values()), None)

    def variants(self, strengths: Sequence[float] = (1.0,)) -> list[Variant]:
        """Base first, then every adapter at each strength, the timeline's left out; no two of one name."""
        found = [BASE] + [Variant.of(name, s) for name in self.shown for s in strengths]
        return [replace(v, name=name) for v, name in zip(found, unique([v.name for v in found]), strict=True)]

    def load(self) -> Load:
        """How much there is to do at this moment."""
        return Load(len(self.batch.rows), len(self.waiting), self.line.room.limit, self.owner.state, self.owner.deaths)

    def submit(self, question: str, instruction: str, variants: Sequence[Variant], sampling: Sampling,
               inbox: SimpleQueue, cancelled: threading.Event | None = None) -> Ask:
        """Put a question in line. Raises what `checked` raises, and Unavailable where the model's thread is gone."""
        ask = self.checked(question, instruction, variants, sampling, inbox, cancelled)
        if self.owner.state == ENDED:
            raise Unavailable(GONE)  # rather than a place in a line that nobody serves
        self.waiting.append(ask)
        self.owner.wake.set()
        return ask

    def checked(self, question: str, instruction: str, variants: Sequence[Variant], sampling: Sampling,
                inbox: SimpleQueue, cancelled: threading.Event | None) -> Ask:
        """A question that can be put. Raises BadQuestion for an empty one, one longer than the window, or ids that
        cannot begin an answer."""
        prompts = {form: self.prompt.encode(question, instruction, form) for form in {v.prompt for v in variants}}
        words, end = self.model.config.vocab_size, self.tokenizer.eos_token_id
        if bad := [i for i in sampling.prefix_ids if not 0 <= i < words or i == end]:
            raise BadQuestion(f"token id {bad[0]} cannot begin an answer; allowed: 0 to {words - 1}, but not {end}, "
                              "which ends one")
        longest = max(map(len, prompts.values()), default=0)
        if longest + sampling.max_new_tokens > self.window:
            raise BadQuestion(f"the question is {longest} tokens long and the answer may have "
                              f"{sampling.max_new_tokens}; together at most {self.window} are allowed; shorten "
                              "it, or lower max_new_tokens")
        return Ask([prompts[v.prompt] for v in variants], variants, sampling, inbox, cancelled)

    def compare(self, question: str, instruction: str = "", variants: Sequence[Variant] | None = None,
                sampling: Sampling = Sampling(), cancelled: threading.Event | None = None) -> Iterator[list[Column]]:
        """Yield all columns as they grow, the last time with every `finish_reason` set.

        A slow reader misses steps, never tokens. Raises BadQuestion; leaving the iterator cancels.
        """
        inbox: SimpleQueue = SimpleQueue()
        columns, began = self.columns(variants, sampling), time.monotonic()
        cancelled = cancelled or threading.Event()
        with Told(question, columns):
            try:
                self.submit(question, instruction, [c.variant for c in columns], sampling, inbox, cancelled)
                while not all(c.finish_reason for c in columns):
                    self.put(columns, self.owner.take(inbox)[1], began)
                    while not inbox.empty():
                        self.put(columns, inbox.get()[1], began)
                    yield columns
            finally:
                cancelled.set()

    def answer_all(self, questions: Sequence[Question], variants: Sequence[Variant] | None = None,
                   sampling: Sampling = Sampling()) -> Iterator[tuple[int, list[Column]]]:
        """Yield (index of the question, its finished columns) as they finish, many at once in the batch.

        Raises BadQuestion before the first answer.
        """
        inbox: SimpleQueue = SimpleQueue()
        began = time.monotonic()
        asks = {}
        try:
            for index, question in enumerate(questions):
                columns = self.columns(variants, sampling)
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

    def columns(self, variants: Sequence[Variant] | None, sampling: Sampling) -> list[Column]:
        return [Column(v, self.decode, list(sampling.prefix_ids)) for v in (variants or self.variants())]

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

        return self.owner.call(lambda: self.line.run(lambda: self.bloom.read(ids, gate_of(variants, self.stack_of))))

    def logits(self, states: Tensor) -> Tensor:
        """(…, hidden) → (…, vocabulary) in float32; give it few positions at once, the vocabulary is wide."""
        return self.owner.call(lambda: self.line.run(lambda: self.bloom.logits(states)))
