"""What `python -m compare`, `compare.evaluate` and `compare.differences` share: options, loading, a disk that fails."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from compare.engine.question import Sampling, Variant, number, read_layers, read_modules, unique_names
from lens.cli import BAD_INPUT, add_model_options, chosen_adapters, quiet_transformers, say
from lens.declared_settings import add_settings, make_settings
from lens.errors import BadQuestion, BadSetting
from lens.rows.row_options import RowOptions

if TYPE_CHECKING:
    from compare.engine.interface import Engine

T = TypeVar("T")


def add_shared_options(parser: argparse.ArgumentParser) -> None:
    """How rows are read, the model and its adapters."""
    add_settings(parser, RowOptions)
    add_model_options(parser)


def add_run_options(parser: argparse.ArgumentParser, what: str, counted: str) -> None:
    """The shared options, and those of a run that reads files and writes a directory. `what` is written, `counted`
    read."""
    parser.add_argument("--output", type=Path, required=True, metavar="DIR",
                        help=f"where the {what} goes; an interrupted run goes on from what is there")
    add_shared_options(parser)
    parser.add_argument("--limit", type=int, metavar="N", help=f"only the first N {counted}")


def check_limit(limit: int | None) -> None:
    if limit is not None and limit < 1:
        raise BadSetting("setting-out-of-range", option="--limit", value=limit, allowed="1 or more")


def row_options(args: argparse.Namespace) -> RowOptions:
    """How rows are to be read. Raises BadSetting."""
    return make_settings(RowOptions, vars(args))


def load_engine(asked: Any, adapters: Sequence[str] | None = None, device: Any = None) -> Engine:
    """The engine for the base, adapters, device, dtype and chat template that `asked` (arguments or settings) has;
    `adapters` and `device` in their place. Raises BadBase or BadAdapter."""
    from compare.engine.local import LocalEngine

    quiet_transformers()
    return LocalEngine(asked.base, chosen_adapters(asked) if adapters is None else list(adapters),
                       device or asked.device, asked.dtype, chat_template=asked.chat_template)


@contextmanager
def ended_by_a_full_disk(output: Path) -> Iterator[None]:
    """Within it a disk that is full or read-only ends the command, told by whichever process met it."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as err:
        full = BadSetting("disk-failed", path=err.filename or output, reason=err.strerror or err, output=output)
        say(f"error: {full}", everyone=True)
        raise SystemExit(BAD_INPUT) from err


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
