"""The command line's manners, and the options that several entry points share. Standard library only."""

from __future__ import annotations

import argparse
import os
import sys
from typing import NoReturn

from lens.embedded import EMBEDDED_ADAPTER, EMBEDDED_BASE, TIMELINE


class Parser(argparse.ArgumentParser):
    """argparse with the contract's manners: one line that begins `error: `, exit status 2."""

    def error(self, message: str) -> NoReturn:
        print(f"error: {message} (see {self.prog} --help)", file=sys.stderr)
        sys.exit(2)


def add_model_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--base", default=os.environ.get("BASE_MODEL") or EMBEDDED_BASE,
                        help="BLOOM model directory or hub name (default: the embedded one)")
    parser.add_argument("--adapter", nargs="+", default=os.environ.get("ADAPTER", "").split(),
                        help="adapter directories or hub names (default: the shipped `lens`, with the embedded base)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda (default: a GPU when there is one)")
    parser.add_argument("--dtype", default="auto", choices=["auto", "float32", "bfloat16", "float16"],
                        help="default: float32 on CPU, bfloat16 or float16 on a GPU")


def chosen_adapters(args: argparse.Namespace) -> list[str]:
    """The adapters asked for; the shipped one belongs to the embedded base alone."""
    return args.adapter or ([EMBEDDED_ADAPTER] if args.base == EMBEDDED_BASE else [])


def chosen_timeline(args: argparse.Namespace) -> list[str]:
    """The shipped adapter's checkpoints by step, where that adapter is the one that is shown."""
    if chosen_adapters(args) != [EMBEDDED_ADAPTER]:
        return []
    return [str(p) for p in sorted(TIMELINE.glob("step-*"), key=lambda p: int(p.name.removeprefix("step-")))]
