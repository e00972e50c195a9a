"""Options of `python -m compare` and `compare.evaluate`: strengths, parts of an adapter, how tokens are chosen."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from compare.engine.question import Sampling, Variant, number, read_layers, read_modules, unique_names
from lens.cli import say
from lens.errors import BadQuestion

T = TypeVar("T")


def add_strength_option(parser: argparse.ArgumentParser, default: list[float], help: str) -> None:
    parser.add_argument("--strength", type=number("strength"), nargs="+", default=default, metavar="S", help=help)


def add_part_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--layers", type=reader(read_layers), metavar="3-5",
                        help="of the adapter, those that are on: from 0, ends included (default: all)")
    parser.add_argument("--modules", type=reader(read_modules), metavar="NAME",
                        help="of the adapter, those that are on: attention, mlp, or names by commas (default: all)")


def reader(read: Callable[[str], T]) -> Callable[[str], T]:
    """An argparse type of a function that raises BadQuestion."""
    def typed(text: str) -> T:
        try:
            return read(text)
        except BadQuestion as err:
            raise argparse.ArgumentTypeError(str(err)) from err

    return typed


def in_part(variants: Sequence[Variant], args: argparse.Namespace) -> list[Variant]:
    """The variants with every adapter on in the layers and modules that were asked for alone, named so."""
    if args.layers is None and args.modules is None:
        return list(variants)
    return unique_names(Variant.of(v.adapter, v.strength, args.layers, args.modules) if v.adapter else v
                        for v in variants)


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
        if variant.adapter and variant.name != (
                plain := Variant.of(variant.adapter, variant.strength, variant.layers, variant.modules).name):
            say(f"note: the name {plain!r} is taken; this column of it is called {variant.name!r}")
