"""What base and adapted model would say after each layer, and how far apart their hidden states are. No torch.

The logit lens (nostalgebraist, "interpreting GPT: the logit lens", 2020): the final norm and the head on the hidden
state after a layer, as if it were the last. `layer_readings.py` reads it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

from compare.analysis.token_shift import Candidate, six_digits
from lens.errors import Note, Unavailable

MOST_POSITIONS = 64  # tokens of an answer that are looked at in one call


def unreadable(base: str) -> Unavailable:
    """Of a base whose forward is not written out here, so that its layers cannot be looked at one by one."""
    return Unavailable("engine-cannot-read-by-layer", base=base[:80])


@dataclass(frozen=True)
class AfterLayer:
    """One model after one layer: its likeliest tokens, and of the one that it chooses in the end the rank (1:
    likeliest) and probability here."""

    top: tuple[Candidate, ...]
    rank: int
    probability: float


@dataclass(frozen=True)
class Through:
    """One model from its first layer to the last, whose `top` is what it really says."""

    layers: tuple[AfterLayer, ...]

    @property
    def choice(self) -> Candidate:
        return self.layers[-1].top[0]

    @property
    def leads_from(self) -> int:
        """The first layer from which its final choice is the likeliest and stays so."""
        behind = [number for number, after in enumerate(self.layers) if after.rank > 1]
        return behind[-1] + 1 if behind else 0

    def as_dict(self) -> dict:
        return {"leads_from": self.leads_from, "layers": [asdict(after) for after in self.layers]}


@dataclass(frozen=True)
class TokenByLayer:
    """A token of the answer, the `index`-th from 0, as both models come to it."""

    index: int
    token_id: int
    text: str
    base: Through
    adapted: Through


@dataclass(frozen=True)
class Change:
    """‖h_adapted − h_base‖ / ‖h_base‖ after a layer at a position."""

    ratio: float
    layer: int
    position: int


@dataclass(frozen=True)
class ByLayer:
    """`tokens`: those that were asked for; `changes`: after each layer, at each position of prompt and answer, whose
    first `prompt_tokens` are the prompt's. The state that chooses token i of the answer is at prompt_tokens - 1 + i.
    """

    variant: str
    prompt_tokens: int
    tokens: tuple[TokenByLayer, ...]
    changes: tuple[tuple[float, ...], ...]

    def largest(self, layers: Iterable[int], positions: range) -> Change:
        """The largest change after one of these layers at one of these positions."""
        return max((Change(self.changes[layer][at], layer, at) for layer in layers for at in positions),
                   key=lambda change: change.ratio)

    @property
    def prompt(self) -> range:
        return range(self.prompt_tokens)

    @property
    def answer(self) -> range:
        return range(self.prompt_tokens, len(self.changes[0]))

    def at(self, token: TokenByLayer) -> list[float]:
        """After each layer, the change of the state that chooses this token."""
        return [layer[self.prompt_tokens - 1 + token.index] for layer in self.changes]

    @property
    def sentence(self) -> Note:
        """Is the change already in the prompt, or at the answer?"""
        layers = range(len(self.changes))
        prompt, answer = self.largest(layers, self.prompt), self.largest(layers, self.answer)
        return Note("by-layer", prompt=prompt.ratio, prompt_layer=prompt.layer, prompt_token=prompt.position + 1,
                    answer=answer.ratio, answer_layer=answer.layer,
                    answer_token=answer.position - self.prompt_tokens + 1)

    def as_dict(self) -> dict:
        """For JSON; numbers to six digits. `changes`: the largest of each layer, and of each position."""
        layers = range(len(self.changes))
        by_layer = [{"prompt": self.largest([layer], self.prompt).ratio,
                     "answer": self.largest([layer], self.answer).ratio} for layer in layers]
        by_position = [max(column) for column in zip(*self.changes, strict=True)]
        tokens = [{"index": t.index, "token_id": t.token_id, "text": t.text, "base": t.base.as_dict(),
                   "adapted": t.adapted.as_dict(), "changes": self.at(t)} for t in self.tokens]
        return six_digits({"variant": self.variant, "prompt_tokens": self.prompt_tokens, "tokens": tokens,
                           "changes": {"by_layer": by_layer, "by_position": by_position},
                           "sentence": self.sentence.in_both})
