"""The map of one answer: how much likelier each part of an adapter alone makes it, and how much each is missed.

Ablation and its counterpart, as causal tracing has them for hidden states (Meng et al., "Locating and Editing Factual
Associations in GPT", 2022): here a part is an adapter's update in some linear layers, and nothing is generated. Parts
do not add up, as a later layer works on what the earlier ones changed. No torch: the engine scores.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass

from compare.analysis.token_shift import six_digits
from compare.engine.question import BASE, GivenAnswer, Variant
from lens.errors import BadAdapter, Note

ROWS, TOKENS = 16, 4096  # in one forward, at most; a single row may be longer
SAID = {"attention": "part-attention", "mlp": "part-mlp", None: "part-layer"}  # a kind → how it is said
Site = tuple[int, str, str]  # a linear layer: its layer's number, its module, and that one's kind, attention or mlp
Places = frozenset[tuple[int, str]]  # layers' numbers and kinds


@dataclass(frozen=True)
class PartVariant(Variant):
    """Of a variant what is in any set of places; a Variant's own part is layers times modules."""

    places: Places = frozenset()

    @property
    def part(self) -> dict[str, str]:
        return {"places": f"{len(self.places)} places"}

    def is_on(self, layer: int, module: str, kind: str) -> bool:
        return (layer, kind) in self.places and super().is_on(layer, module, kind)


@dataclass(frozen=True)
class Part:
    """An adapter in one layer: in its attention or mlp, or in the whole layer (`kind` None).

    `gained`: log-probability of the answer with this part alone on, less the base's; `lost`: the whole adapter's, less
    that with this part alone off; nats.
    """

    layer: int
    kind: str | None
    gained: float
    lost: float

    @property
    def name(self) -> Note:
        return Note(SAID[self.kind], layer=self.layer)


@dataclass(frozen=True)
class LayerMap:
    """`base`, `adapted`: log-probability of the answer's `tokens` together, nats; `parts`: by layer, the whole layer
    after its attention and mlp."""

    variant: str
    tokens: int
    base: float
    adapted: float
    parts: tuple[Part, ...]

    @property
    def sentence(self) -> Note:
        """What matters most of the attentions and mlps, by itself and where it alone is off."""
        kinds = [part for part in self.parts if part.kind]
        most = max(kinds, key=lambda part: abs(part.gained))
        missed = max(kinds, key=lambda part: abs(part.lost))
        return Note("layer-map-one" if most is missed else "layer-map", whole=self.adapted - self.base,
                    tokens=self.tokens, base=self.base, adapted=self.adapted, most=most.name, gained=most.gained,
                    missed=missed.name, off=-missed.lost)

    def as_dict(self) -> dict:
        """For JSON; numbers to six digits."""
        return six_digits({"variant": self.variant, "tokens": self.tokens, "base": self.base, "adapted": self.adapted,
                           "parts": [asdict(part) for part in self.parts],
                           "sentence": self.sentence.in_both})


def layer_map(likelihoods: Callable[[Sequence[GivenAnswer]], list[float]], given: GivenAnswer,
              sites: Iterable[Site]) -> LayerMap:
    """Of an adapted variant's answer. `likelihoods`: an engine's; `sites`: the linear layers that the adapter changes.

    Raises BadAdapter where logits are not finite.
    """
    whole: Places = frozenset((layer, kind) for layer, module, kind in sites
                              if given.variant.is_on(layer, module, kind))
    cells: dict[tuple[int, str | None], Places] = {}
    for layer in sorted({layer for layer, _ in whole}):
        here = frozenset(place for place in whole if place[0] == layer)
        cells |= {place: frozenset({place}) for place in sorted(here)}
        cells[layer, None] = here
    nothing: Places = frozenset()
    wanted = [nothing, whole, *(places for cell in cells.values() for places in (cell, whole - cell))]
    found = scored(likelihoods, given, list(dict.fromkeys(wanted)))
    base, adapted = found[nothing], found[whole]
    parts = (Part(*place, found[cell] - base, adapted - found[whole - cell]) for place, cell in cells.items())
    return LayerMap(given.variant.name, len(given.answer_ids), base, adapted, tuple(parts))


def scored(likelihoods: Callable[[Sequence[GivenAnswer]], list[float]], given: GivenAnswer,
           wanted: Sequence[Places]) -> dict[Places, float]:
    """The answer's log-probability with the adapter on in each of these sets of places alone."""
    rows = max(1, min(ROWS, TOKENS // (len(given.prompt_ids) + len(given.answer_ids))))
    asked = [GivenAnswer(given.prompt_ids, given.answer_ids, on_in(given.variant, places)) for places in wanted]
    totals = [total for start in range(0, len(asked), rows) for total in likelihoods(asked[start:start + rows])]
    if not all(map(math.isfinite, totals)):
        raise BadAdapter("logits-not-finite")
    return dict(zip(wanted, totals, strict=True))


def on_in(variant: Variant, places: Places) -> Variant:
    return PartVariant(**vars(variant), places=places) if places else BASE
