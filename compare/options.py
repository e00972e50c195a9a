"""Options that `python -m compare` and `python -m compare.evaluate` share: strengths, and how tokens are chosen."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from compare.engine.question import Sampling, Variant, number
from lens.cli import say


def add_strength_option(parser: argparse.ArgumentParser, default: list[float], help: str) -> None:
    parser.add_argument("--strength", type=number("strength"), nargs="+", default=default, metavar="S", help=help)


def add_sampling_options(parser: argparse.ArgumentParser, seed_of: str = "sampling") -> None:
    first = Sampling()
    for name, help in (("max_new_tokens", "of an answer, at most"), ("temperature", "0 is greedy"),
                       ("top_p", "share of the likeliest tokens that are drawn from"), ("seed", f"of {seed_of}")):
        parser.add_argument("--" + name.replace("_", "-"), type=number(name), default=getattr(first, name),
                            metavar=name.upper(), help=f"{help} (default: {getattr(first, name):g})")


def sampling_of(args: argparse.Namespace, **more: Any) -> Sampling:
    return Sampling(args.max_new_tokens, args.temperature, args.top_p, args.seed, **more)


def note_names(variants: Sequence[Variant]) -> None:
    """Say it where a column is not called by its adapter and strength alone, because that name is taken."""
    for variant in variants:
        if variant.adapter and variant.name != (plain := Variant.of(variant.adapter, variant.strength).name):
            say(f"note: the name {plain!r} is taken; this column of it is called {variant.name!r}")
