"""What is asked of an engine: a question, the variants that answer it, and how they choose their tokens. No torch.

Every number that a user may give has its one range here, for the command line, the page, evaluation and the API.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from lens.adapter.directory import unique
from lens.chat import Form, valid_text
from lens.errors import BadQuestion


@dataclass(frozen=True)
class Range:
    """The numbers allowed, both ends included; finite ones only."""

    low: float
    high: float
    whole: bool = False

    def check(self, name: str, value: float) -> None:
        """Raises BadQuestion unless `value`, which is called `name`, lies in the range."""
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not self.low <= value <= self.high or self.whole and value != int(value):
            raise BadQuestion("whole-number-out-of-range" if self.whole else "number-out-of-range", name=name,
                              value=value if number else repr(value)[:40], low=self.low, high=self.high)


RANGES = {"strength": Range(-10, 10), "max_new_tokens": Range(1, 4096, whole=True), "temperature": Range(0, 10),
          "top_p": Range(0.01, 1), "seed": Range(0, 2**63 - 1, whole=True), "repetition_penalty": Range(0.1, 10)}


def number(name: str) -> Callable[[str], float]:
    """An argparse type: a number in the range of that name."""
    allowed = RANGES[name]

    def read(text: str) -> float:
        try:
            value = int(text) if allowed.whole else float(text)
        except ValueError as err:
            raise argparse.ArgumentTypeError(f"{text[:40]!r} is no {'whole ' * allowed.whole}number; allowed: "
                                             f"{allowed.low} to {allowed.high}") from err
        try:
            allowed.check(name, value)
        except BadQuestion as err:
            raise argparse.ArgumentTypeError(str(err)) from err
        return value

    return read


@dataclass(frozen=True)
class Question:
    """Text and instruction, both as `valid_text`."""

    text: str
    instruction: str = ""

    def __post_init__(self) -> None:
        for name in ("text", "instruction"):
            object.__setattr__(self, name, valid_text(getattr(self, name)))


KINDS = ("attention", "mlp")  # of modules, by the names people know them by
MODULE = re.compile(r"\w+(?:\.\w+)*", re.ASCII)  # a linear layer's short name, such as q_proj or attn.c_proj
MOST_LAYERS = 1000


def read_layers(text: str) -> tuple[int, ...]:
    """`3-5`, `0` or `0,3-5`: numbers of layers, counted from 0, ends included. Raises BadQuestion."""
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        if not (first.isdecimal() and (last or first).isdecimal() and len(first) < 5 and len(last) < 5) or (
                "-" in part and not last) or not int(first) <= int(last or first) < MOST_LAYERS:
            raise BadQuestion("layers-unreadable", value=text[:40])
        found |= set(range(int(first), int(last or first) + 1))
    return tuple(sorted(found))


def read_modules(text: str) -> tuple[str, ...]:
    """`attention`, `mlp`, a module's name, or several by commas; which names there are, the base decides. Raises
    BadQuestion."""
    found = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    if odd := [name for name in found if not MODULE.fullmatch(name)]:
        raise BadQuestion("modules-unknown", value=odd[0][:40], allowed=", ".join(KINDS))
    return found


def shown_layers(layers: Sequence[int]) -> str:
    """As `read_layers` reads it, in the fewest words."""
    numbered = enumerate(sorted(set(layers)))
    runs = [[n for _, n in run] for _, run in groupby(numbered, lambda pair: pair[1] - pair[0])]
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs)


@dataclass(frozen=True)
class Variant:
    """What a column shows: the adapter (None: base) at a strength, asked in a form, under a name.

    `layers`, `modules`: those in which the adapter is on, as `read_layers` and `read_modules` give them; None: in all.
    `title`: what whoever asked calls it, "" where nobody did.
    """

    name: str
    adapter: str | None = None
    strength: float = 0.0
    prompt: Form = "chat"
    layers: tuple[int, ...] | None = None
    modules: tuple[str, ...] | None = None
    title: str = ""

    def __post_init__(self) -> None:
        RANGES["strength"].check("strength", self.strength)

    @classmethod
    def of(cls, adapter: str, strength: float = 1.0, layers: tuple[int, ...] | None = None,
           modules: tuple[str, ...] | None = None) -> Variant:
        """An adapter at a strength, which its name tells unless it is 1, as it tells the part that is on."""
        new = cls(adapter, adapter, strength, layers=layers, modules=modules)
        part = ", ".join(f"{key} {value}" if key == "layers" else value for key, value in new.part.items())
        return replace(new, name=adapter + (f"@{strength:g}" if strength != 1 else "") + (f" [{part}]" if part else ""))

    @property
    def part(self) -> dict[str, str]:
        """`layers` and `modules` as they are written, those that are given; {} where the whole adapter is on."""
        return {**({} if self.layers is None else {"layers": shown_layers(self.layers)}),
                **({} if self.modules is None else {"modules": ",".join(self.modules)})}

    def is_on(self, layer: int, module: str, kind: str) -> bool:
        """Is its adapter, if it has one, on in this linear layer? `kind`: attention or mlp, what it belongs to."""
        return (self.layers is None or layer in self.layers) and (
            self.modules is None or module in self.modules or kind in self.modules)


BASE = Variant("base")
PLAIN = Variant("base, plain prompt", prompt="plain")  # what the base can do when asked its own way


def unique_names(variants: Iterable[Variant]) -> list[Variant]:
    """The variants under names of which none stands twice: an adapter called `base` becomes `base (adapter)`, what
    comes a second time `lens (2)`. Names that are unique stay as they are."""
    variants = list(variants)
    plain = [f"{v.name} (adapter)" if v.adapter and v.name in (BASE.name, PLAIN.name) else v.name for v in variants]
    return [replace(v, name=name) for v, name in zip(variants, unique(plain), strict=True)]


@dataclass(frozen=True)
class Sampling:
    """How to choose tokens. Temperature 0 is greedy; then `top_p` and `seed` do nothing.

    `repetition_penalty` is 1 (off) unless asked for: it hides the loops that a base falls into.
    """

    max_new_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    repetition_penalty: float = 1.0
    stop_at_loop: bool = False

    def __post_init__(self) -> None:
        for name, allowed in RANGES.items():
            if name != "strength":
                allowed.check(name, getattr(self, name))

    @property
    def prefix_ids(self) -> tuple[int, ...]:
        """The ids that an answer is to begin with: none, unless it is a Continuation."""
        return ()

    @property
    def plain(self) -> bool:
        """Greedy and without a penalty: the largest logit wins."""
        return self.temperature == 0 and self.repetition_penalty == 1


@dataclass(frozen=True)
class Continuation(Sampling):
    """Of answers that begin with these ids, as if each column had chosen them itself.

    They count towards `max_new_tokens`, and the random draws of their steps are spent: forced with its own ids, an
    answer goes on as it did.
    """

    prefix_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.prefix_ids) >= self.max_new_tokens:
            raise BadQuestion("prefix-too-long", given=len(self.prefix_ids), limit=self.max_new_tokens)


@dataclass(frozen=True)
class GivenAnswer:
    """Token ids whose likelihood is asked for: an answer after a prompt, under a variant."""

    prompt_ids: Sequence[int]
    answer_ids: Sequence[int]
    variant: Variant
