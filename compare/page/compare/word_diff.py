"""Where two answers differ: by word, or by character where a script writes no spaces between words. No page, no model.

`difflib.SequenceMatcher` compares what follows the beginning that both share. It takes time with the product of two
lengths, so of a very long answer only so much is compared, which is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import takewhile
from typing import Literal

import regex

# A word; one character, with all that is combined with it, of a script without spaces; white space; anything else.
UNSPACED = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]"
WORD = rf"(?:(?=[\p{{L}}\p{{N}}_])(?!{UNSPACED})\X)+(?:['’](?=\p{{L}})(?:(?=[\p{{L}}\p{{N}}_])(?!{UNSPACED})\X)+)*"
UNIT = regex.compile(rf"{WORD}|\s+|\X", regex.DOTALL)
MOST = 1_500  # units of either answer that are compared, after the beginning that both share

Kind = Literal["same", "other", "first", "beyond"]


def units(text: str) -> list[str]:
    """The text in what is compared, nothing left out."""
    return UNIT.findall(text)


@dataclass(frozen=True)
class Stretch:
    """A part of an answer. `first`: the unit at which the two part; `beyond`: too far on to be compared."""

    text: str
    kind: Kind


@dataclass(frozen=True)
class Difference:
    """Two answers beside each other. `shared`: units that both begin with, white space not counted; `agreement`: the
    share of what was compared that stands in both, in whole per cent, 100 only where nothing differs."""

    one: tuple[Stretch, ...]
    other: tuple[Stretch, ...]
    shared: int
    agreement: int

    @property
    def equal(self) -> bool:
        return all(stretch.kind == "same" for stretch in (*self.one, *self.other))

    @property
    def first(self) -> tuple[str, str]:
        """The unit at which each goes its own way; "" for one that is at its end."""
        one, other = ("".join(s.text for s in side if s.kind == "first") for side in (self.one, self.other))
        return one, other

    @property
    def whole(self) -> bool:
        """Was all of both compared?"""
        return not any(stretch.kind == "beyond" for stretch in (*self.one, *self.other))


def counted(given: Sequence[str]) -> int:
    return sum(not unit.isspace() for unit in given)


def stretches(given: Sequence[str], kinds: Sequence[Kind]) -> tuple[Stretch, ...]:
    """Neighbours of one kind as one."""
    found: list[Stretch] = []
    for unit, kind in zip(given, kinds, strict=True):
        if found and found[-1].kind == kind:
            found[-1] = Stretch(found[-1].text + unit, kind)
        else:
            found.append(Stretch(unit, kind))
    return tuple(found)


def undecided(begun: int, compared: int, all: int) -> list[Kind]:
    """Of each unit of an answer, before what follows the shared beginning was compared."""
    same: list[Kind] = ["same"] * begun
    other: list[Kind] = ["other"] * compared
    beyond: list[Kind] = ["beyond"] * (all - begun - compared)
    return same + other + beyond


def difference(one: str, other: str, most: int = MOST) -> Difference:
    """What two answers share and where they differ."""
    sides = units(one), units(other)
    begun = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(*sides, strict=False)))
    rests = [side[begun:begun + most] for side in sides]
    kinds = [undecided(begun, len(rest), len(side)) for side, rest in zip(sides, rests, strict=True)]
    matched = counted(sides[0][:begun])
    for block in SequenceMatcher(None, rests[0], rests[1], autojunk=False).get_matching_blocks():
        for side, at in zip(kinds, (block.a, block.b), strict=True):
            side[begun + at:begun + at + block.size] = ["same"] * block.size
        matched += counted(rests[0][block.a:block.a + block.size])
    for side in kinds:
        if begun < len(side):
            side[begun] = "first"
    compared = sum(counted(side[:begun + most]) for side in sides)
    first, second = (stretches(*side) for side in zip(sides, kinds, strict=True))
    return Difference(first, second, counted(sides[0][:begun]), percent(2 * matched, compared, sides[0] == sides[1]))


def percent(part: int, whole: int, equal: bool) -> int:
    return 100 if equal else min(99, 100 * part // whole if whole else 0)
