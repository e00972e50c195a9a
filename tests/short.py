"""The local engine with what tests of its insides ask for, in fewer words."""

from __future__ import annotations

from collections.abc import Iterator

from compare.engine import answers
from compare.engine.answers import Column
from compare.engine.interface import LoadedAdapter, Question, Sampling
from compare.engine.local import LocalEngine


class Engine(LocalEngine):
    def compare(self, question: str, instruction: str = "", variants=None, sampling: Sampling = Sampling(),
                cancelled=None) -> Iterator[list[Column]]:
        return answers.compare(self, Question(question, instruction), variants, sampling, cancelled)

    def answer_all(self, questions, variants=None, sampling: Sampling = Sampling()):
        return answers.answer_all(self, questions, variants, sampling)

    @property
    def files(self) -> LoadedAdapter:
        return next(iter(self.adapters.values()))

    @property
    def receipts(self) -> dict:
        return {name: adapter.receipt for name, adapter in self.adapters.items()}

    tokenizer = property(lambda self: self.tokens.tokenizer)
    prompt = property(lambda self: self.tokens.prompt)
    model = property(lambda self: self.loaded.model)
    stack_of = property(lambda self: self.loaded.stack_of)
    decoder = property(lambda self: self.loaded.decoder)
    batch = property(lambda self: self.queue.batch)
    waiting = property(lambda self: self.queue.waiting)
    window = property(lambda self: self.facts.window)
