"""What an engine was asked by before it had an interface: until the page, the terminal and the report have moved."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from compare.engine import answers
from compare.engine.interface import Question, Sampling


class OldNames:
    """Everything here is said through `compare.engine.interface.Engine`."""

    def compare(self: Any, question, instruction="", variants=None, sampling=Sampling(), cancelled=None):
        return answers.compare(self, Question(question, instruction), variants, sampling, cancelled)

    def answer_all(self: Any, questions, variants=None, sampling=Sampling()):
        return answers.answer_all(self, questions, variants, sampling)

    @property
    def files(self: Any):
        return next(iter(self.adapters.values()), None)

    @property
    def receipts(self: Any):
        return {name: adapter.receipt for name, adapter in self.adapters.items()}

    @property
    def tokenizer(self: Any):
        return self.tokens.tokenizer

    @property
    def prompt(self: Any):
        return self.tokens.prompt

    @property
    def model(self: Any):
        return SimpleNamespace(config=self.facts.shape)

    base = property(lambda self: self.facts.base)
    base_name = property(lambda self: self.facts.base_name)
    device = property(lambda self: self.facts.device)
    dtype = property(lambda self: self.facts.dtype)
    parameters = property(lambda self: self.facts.parameters)
    window = property(lambda self: self.facts.window)
