"""Measured texts added up: how much changes, where most, which tokens rise and fall, what is forgotten."""

from __future__ import annotations

import heapq
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from compare.corpus.measured import Measured
from lens.errors import Note

LARGE = 0.5  # nats of KL from which a token counts as changed
SHOWN = 10  # texts and tokens of each kind that are kept
OFTEN = 3  # times that a token must stand in the corpus to be ranked
CONTEXT = 12  # tokens before it that are shown
CONTEXTS = 3  # places of a token that are kept, those where it changed most
FORGOTTEN = 0.05  # nats a token by which the cross-entropy must rise to be called forgotten


@dataclass
class Sums:
    """Of some tokens: how many, how many changed by more than LARGE, sums of KL and of both cross-entropies in nats."""

    texts: int = 0
    tokens: int = 0
    changed: int = 0
    kl: float = 0.0
    base: float = 0.0
    adapted: float = 0.0

    def add(self, text: Measured) -> None:
        self.texts += 1
        self.tokens += len(text.ids)
        self.changed += sum(kl > LARGE for kl in text.kl)
        self.kl += sum(text.kl)
        self.base -= sum(text.base)
        self.adapted -= sum(text.adapted)

    def as_dict(self) -> dict:
        n = max(self.tokens, 1)
        return {"texts": self.texts, "tokens": self.tokens, "changed": self.changed / n, "kl": self.kl / n,
                "cross_entropy_base": self.base / n, "cross_entropy_adapted": self.adapted / n}


@dataclass
class Token:
    """One token wherever it stands: how often, the sum of what its probability changed by, and where it did most."""

    text: str
    count: int = 0
    change: float = 0.0
    most: float = 0.0
    contexts: dict[str, float] = field(default_factory=dict)  # the text up to it → its change there, each text once

    def add(self, change: float, pieces: Sequence[str], at: int) -> None:
        self.count, self.change = self.count + 1, self.change + change
        if abs(change) > abs(self.most):
            self.most, self.text = change, pieces[at] or self.text
        if len(self.contexts) == CONTEXTS and abs(change) <= min(map(abs, self.contexts.values())):
            return
        context = "".join(pieces[max(0, at - CONTEXT):at + 1])
        self.contexts[context] = max(self.contexts.get(context, change), change, key=abs)
        if len(self.contexts) > CONTEXTS:
            del self.contexts[min(self.contexts, key=lambda text: abs(self.contexts[text]))]

    def as_dict(self) -> dict:
        contexts = sorted(self.contexts.items(), key=lambda one: abs(one[1]), reverse=True)
        return {"token": self.text, "count": self.count, "change": self.change / self.count, "most": self.most,
                "context": contexts[0][0],  # what there was before `contexts`
                "contexts": [{"text": text, "change": change} for text, change in contexts]}


class Largest:
    """The SHOWN texts of the largest figure."""

    def __init__(self, figure: Callable[[Measured], float]):
        self.figure, self.heap, self.count = figure, list[tuple[float, int, Measured]](), 0

    def add(self, text: Measured) -> None:
        self.count += 1
        heapq.heappush(self.heap, (self.figure(text), -self.count, text))
        if len(self.heap) > SHOWN:
            heapq.heappop(self.heap)

    def texts(self) -> list[dict]:
        return [{"where": text.where, "tag": ", ".join(text.tags), "kl": text.mean_kl, "risen": text.risen,
                 "pieces": text.pieces, "kls": text.kl} for _, _, text in sorted(self.heap, reverse=True)]


@dataclass
class Totals:
    """What is kept of a corpus of any size: sums, the vocabulary's tokens, a few texts."""

    whole: Sums = field(default_factory=Sums)
    sources: dict[str, Sums] = field(default_factory=lambda: defaultdict(Sums))
    tags: dict[str, Sums] = field(default_factory=lambda: defaultdict(Sums))
    tokens: dict[int, Token] = field(default_factory=dict)
    most: Largest = field(default_factory=lambda: Largest(lambda text: text.mean_kl))
    least: Largest = field(default_factory=lambda: Largest(lambda text: -text.mean_kl))
    forgotten: Largest = field(default_factory=lambda: Largest(lambda text: text.risen))

    def add(self, text: Measured) -> None:
        for sums in (self.whole, self.sources[text.source], *(self.tags[tag] for tag in text.tags)):
            sums.add(text)
        for largest in (self.most, self.least, self.forgotten):
            largest.add(text)
        for at, (token_id, base, adapted) in enumerate(zip(text.ids, text.base, text.adapted, strict=True)):
            if (token := self.tokens.get(token_id)) is None:
                token = self.tokens[token_id] = Token(text.pieces[at])
            token.add(math.exp(adapted) - math.exp(base), text.pieces, at)

    def ranked(self, sign: int) -> list[dict]:
        """Tokens that stand there OFTEN times, by the mean change of their probability; `sign` 1: risen, −1: fallen."""
        often = [(token.change / token.count, token) for token in self.tokens.values() if token.count >= OFTEN]
        best = heapq.nlargest(SHOWN, (pair for pair in often if sign * pair[0] > 0), key=lambda pair: sign * pair[0])
        return [token.as_dict() for _, token in best]

    def summary(self) -> list[Note]:
        """In sentences that follow from the figures."""
        whole = self.whole.as_dict()
        said = [Note("differences-changed", share=whole["changed"], tokens=self.whole.tokens, nats=LARGE,
                     kl=whole["kl"])]
        groups = self.tags if len(self.tags) > 1 else self.sources
        if len(groups) > 1:
            name, most = max(((name, sums.as_dict()) for name, sums in groups.items()), key=lambda one: one[1]["kl"])
            said.append(Note("differences-most-in", group=name[:80], kl=most["kl"], share=most["changed"]))
        rise = whole["cross_entropy_adapted"] - whole["cross_entropy_base"]
        code = "differences-worse" if rise > FORGOTTEN else "differences-better" if rise < -FORGOTTEN else (
            "differences-as-well")
        said.append(Note(code, base=whole["cross_entropy_base"], adapted=whole["cross_entropy_adapted"]))
        if len(self.sources) + len(self.tags) > 1:
            every = [(name, sums.as_dict()) for name, sums in (*self.sources.items(), *self.tags.items())]
            lost = lambda one: one["cross_entropy_adapted"] - one["cross_entropy_base"]  # noqa: E731
            name, worst = max(every, key=lambda group: lost(group[1]))
            if lost(worst) > FORGOTTEN:
                said.append(Note("differences-worse-in", group=name[:80], base=worst["cross_entropy_base"],
                                 adapted=worst["cross_entropy_adapted"]))
        return said

    def as_dict(self) -> dict:
        return {"whole": self.whole.as_dict(), "large": LARGE,
                "summary": [note.as_dict() for note in self.summary()],
                "sources": [{"name": name, **sums.as_dict()} for name, sums in self.sources.items()],
                "tags": [{"name": name, **sums.as_dict()} for name, sums in self.tags.items()],
                "risen": self.ranked(1), "fallen": self.ranked(-1), "most_changed": self.most.texts(),
                "least_changed": self.least.texts(),
                "forgotten": [text for text in self.forgotten.texts() if text["risen"] > FORGOTTEN]}
