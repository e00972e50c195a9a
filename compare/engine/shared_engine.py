"""What every engine does alike: its columns, checking what is asked, and a stream of events from an inbox. No torch."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Self

from compare.analysis.layer_lens import MOST_POSITIONS, unreadable
from compare.analysis.layer_map import LayerMap, Site, layer_map
from compare.analysis.token_text import Tokens
from compare.engine.interface import (
    BASE,
    Ability,
    Ended,
    EngineEvent,
    Facts,
    GivenAnswer,
    Grown,
    LoadedAdapter,
    Question,
    Sampling,
    Step,
    Variant,
    unique_names,
)
from compare.engine.open_question import OpenQuestion
from compare.engine.question import KINDS, shown_layers
from lens.adapter.directory import AdapterFiles
from lens.base.linear_layers import ATTENTION
from lens.errors import BadQuestion, Unavailable

Inbox = SimpleQueue[EngineEvent]


class SharedEngine:
    """An engine without its model: who inherits it gives what is declared here, `begin` and `log_likelihoods`."""

    tokens: Tokens
    facts: Facts
    abilities: frozenset[Ability]
    shown: Sequence[str]  # the adapters of every question, in the order of their columns; one may stand twice

    @property
    def adapters(self) -> Mapping[str, LoadedAdapter]:
        raise NotImplementedError

    def begin(self, question: OpenQuestion) -> None:
        """Let a question's answers begin; it is told of all that happens to it. Raises Unavailable."""
        raise NotImplementedError

    def log_likelihoods(self, given: Sequence[GivenAnswer]) -> list[float]:
        raise NotImplementedError

    def take(self, inbox: Inbox) -> EngineEvent:
        """The next event, waited for."""
        return inbox.get()

    def load_adapter(self, path: Path) -> str:
        raise Unavailable("engine-cannot-load-adapters")

    def unload_adapter(self, name: str) -> None:
        raise Unavailable("engine-cannot-load-adapters")

    def close(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def variants(self, strengths: Sequence[float] = (1.0,)) -> list[Variant]:
        shown = [name for name in self.shown if name in self.adapters]
        return unique_names([BASE] + [Variant.of(name, s) for name in shown for s in strengths])

    def ask(self, questions: Sequence[Question], variants: Sequence[Variant] | None = None,
            sampling: Sampling = Sampling(),
            cancelled: threading.Event | None = None) -> Generator[EngineEvent, None, None]:
        chosen, inbox = unique_names(variants or self.variants()), Inbox()
        cancelled = cancelled or threading.Event()
        self.check(chosen, sampling)
        opened = [OpenQuestion(self.prompts(question, chosen, sampling), chosen, sampling, inbox.put, cancelled, number,
                               question) for number, question in enumerate(questions)]
        try:
            for question in opened:
                self.begin(question)
            yield from (question.asked for question in opened)
            left = len(opened)
            while left:
                for event in merged(self.taken(inbox)):
                    left -= isinstance(event, Ended)
                    yield event
        finally:
            cancelled.set()

    def taken(self, inbox: Inbox) -> Iterator[EngineEvent]:
        """One event, waited for, and whatever else is there."""
        yield self.take(inbox)
        while not inbox.empty():
            yield inbox.get()

    def check_part(self, variant: Variant, files: AdapterFiles) -> None:
        """Raises BadQuestion for layers that the model has not, or a part in which the adapter changes nothing."""
        count = self.facts.shape.n_layer
        if max(variant.layers or (), default=0) >= count:
            raise BadQuestion("layers-not-there", value=variant.part["layers"], last=count - 1)
        known = [*KINDS, *files.names]
        if odd := [name for name in variant.modules or () if name not in known]:
            raise BadQuestion("modules-unknown", value=odd[0][:40], allowed=", ".join(known))
        if not any(variant.is_on(*site) for site in sites_of(files)):
            raise BadQuestion("part-without-adapter", adapter=files.name[:80], part=" ".join(variant.part.values()),
                              layers=shown_layers(files.layers), modules=", ".join(files.modules))

    def layer_map(self, given: GivenAnswer) -> LayerMap:
        return layer_map(self.log_likelihoods, given, sites_of(self.checked(given).files))

    def check_by_layer(self, given: GivenAnswer, positions: Sequence[int]) -> None:
        """Raises as `checked`, Unavailable where layers cannot be looked at here, BadQuestion for positions outside of
        the answer."""
        if "by-layer" not in self.abilities:
            raise unreadable(self.facts.base_name)
        self.checked(given)
        if len(positions) > MOST_POSITIONS or not all(0 <= i < len(given.answer_ids) for i in positions):
            raise BadQuestion("positions-not-there", positions=str(list(positions))[:80],
                              last=len(given.answer_ids) - 1, most=MOST_POSITIONS)

    def checked(self, given: GivenAnswer) -> LoadedAdapter:
        """The adapter whose answer is looked into. Raises BadQuestion for a variant without one, or an answer without
        tokens, too long, or of ids that are none."""
        self.check([given.variant])
        length, words = len(given.answer_ids), self.facts.shape.vocab_size
        if not given.variant.adapter or not given.prompt_ids or not length:
            raise BadQuestion("nothing-to-look-at", variant=given.variant.name[:80], tokens=length)
        if len(given.prompt_ids) + length > self.facts.window:
            raise BadQuestion("answer-over-window", prompt=len(given.prompt_ids), answer=length,
                              window=self.facts.window)
        if odd := [i for i in (*given.prompt_ids, *given.answer_ids) if not 0 <= i < words]:
            raise BadQuestion("token-id-not-there", id=odd[0], last=words - 1)
        return self.adapters[given.variant.adapter]

    def check(self, variants: Sequence[Variant], sampling: Sampling = Sampling()) -> None:
        """Raises BadQuestion for an adapter that is not loaded, or ids that cannot begin an answer."""
        for variant in variants:
            if variant.adapter and variant.adapter not in self.adapters:
                raise BadQuestion("adapter-not-loaded", name=variant.adapter[:80],
                                  loaded=", ".join(self.adapters) or "none loaded")
            if variant.adapter and variant.part:
                self.check_part(variant, self.adapters[variant.adapter].files)
        words, end = self.facts.shape.vocab_size, self.tokens.end_id
        if bad := [i for i in sampling.prefix_ids if not 0 <= i < words or i == end]:
            raise BadQuestion("prefix-id-not-allowed", id=bad[0], last=words - 1, end=end)

    def prompts(self, question: Question, variants: Sequence[Variant], sampling: Sampling) -> list[list[int]]:
        forms = {form: self.tokens.prompt_ids(question.text, question.instruction, form)
                 for form in {v.prompt for v in variants}}
        longest = max(map(len, forms.values()))
        if longest + sampling.max_new_tokens > self.facts.window:
            raise BadQuestion("question-over-window", tokens=longest, answer=sampling.max_new_tokens,
                              window=self.facts.window)
        return [forms[v.prompt] for v in variants]


def sites_of(files: AdapterFiles) -> list[Site]:
    """The linear layers that an adapter changes: layer, module and kind."""
    return [(site.layer, site.short, "attention" if any(word in name for word in ATTENTION) else "mlp")
            for name, site in files.sites.items()]


def merged(events: Iterable[EngineEvent]) -> Iterator[EngineEvent]:
    """The events with all steps of a question as one, before its end."""
    grown: dict[int, list[Grown]] = {}
    for event in events:
        if isinstance(event, Step):
            grown.setdefault(event.question, []).extend(event.grown)
            continue
        if event.question in grown:
            yield Step(event.question, tuple(grown.pop(event.question)))
        yield event
    yield from (Step(which, tuple(some)) for which, some in grown.items())


def answered_by(question: OpenQuestion, stream: Iterable[Sequence[Grown]], stop: Callable[[], object],
                told: Counter[int] | None = None) -> None:
    """Tell a question what a stream from elsewhere says that it grew, until all columns have finished or it is
    cancelled. `told`: how much of each column it was told by an earlier stream, which is passed over."""
    told, seen = Counter() if told is None else told, Counter[int]()
    for news in stream:
        fresh = []
        for one in news:
            seen[one.column] += 1
            if seen[one.column] > told[one.column]:
                told[one.column] += 1
                fresh.append(one)
        question.grow(fresh)
        if question.cancelled.is_set() and question.growing:
            stop()
            return question.cancel()
