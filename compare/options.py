"""Options that `python -m compare` and `python -m compare.evaluate` share: strengths, and how tokens are chosen."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from compare.engine.interface import Sampling
from lens.errors import BadSetting

STRENGTHS = (-10.0, 10.0)


def add_strength_option(parser: argparse.ArgumentParser, default: list[float], help: str) -> None:
    parser.add_argument("--strength", type=float, nargs="+", default=default, metavar="S", help=help)


def check_strengths(strengths: Sequence[float]) -> None:
    """Raises BadSetting for one that is out of range, or no number."""
    low, high = STRENGTHS
    for strength in strengths:
        if not low <= strength <= high:
            raise BadSetting("setting-out-of-range", option="--strength", value=f"{strength:g}",
                             allowed=f"{low:g} to {high:g}")


def add_sampling_options(parser: argparse.ArgumentParser, seed_of: str = "sampling") -> None:
    first = Sampling()
    parser.add_argument("--max-new-tokens", type=int, default=first.max_new_tokens,
                        help=f"of an answer, at most (default: {first.max_new_tokens})")
    parser.add_argument("--temperature", type=float, default=first.temperature, help="0 is greedy (default: 0)")
    parser.add_argument("--top-p", type=float, default=first.top_p, help="(default: 1)")
    parser.add_argument("--seed", type=int, default=first.seed, help=f"of {seed_of} (default: 0)")


def sampling_of(args: argparse.Namespace, **more) -> Sampling:
    """Raises BadQuestion where a setting is out of range."""
    return Sampling(args.max_new_tokens, args.temperature, args.top_p, args.seed, **more)
