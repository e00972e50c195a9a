"""python -m compare.adapters DIR DIR …: how adapters are related, from their weights, without a base."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from lens.adapter.directory import AdapterFiles, read_adapters
from lens.adapter.fit import Fit
from lens.cli import Parser, command, print_json, say_notes
from lens.errors import BadSetting, Note
from lens.terminal_text import one_line

if TYPE_CHECKING:
    from rich.table import Table

    from compare.analysis.adapter_pairs import AdapterPairs, Pair

MOST_SHOWN = 20  # pairs on a terminal
NAMES, COSINE = 60, 7  # characters that a line takes before its cosines, and for each


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(prog="python -m compare.adapters",
                    description="Do these adapters do the same? Sizes, ranks, shared subspaces and cosines of their "
                                "updates, from their weights alone.")
    parser.add_argument("adapters", nargs="+", metavar="DIR", help="adapter directories, checkpoints too, or hub names")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout, with every layer")
    return parser.parse_args(argv)


def measured(names: list[str]) -> AdapterPairs:
    """The adapters of these names, each once, what is to be said of them said. Raises BadAdapter or BadSetting."""
    adapters: list[AdapterFiles] = []
    for files in read_adapters(names, Fit(any_decoder=True)):
        if files in adapters:
            say_notes([Note("adapter-given-twice", path=files.path)])
        else:
            adapters.append(files)
    if len(adapters) < 2:
        raise BadSetting("adapters-too-few", given=len(adapters))
    from compare.analysis.adapter_pairs import AdapterPairs

    found = AdapterPairs(adapters)
    say_notes([note for adapter in found.adapters for note in adapter.files.notes] + found.notes)
    return found


def table(found: AdapterPairs, pairs: list[Pair], width: int) -> Table:
    """A line an adapter; the cosines with the others where they fit side by side."""
    from rich.table import Table
    from rich.text import Text

    count = len(found.adapters) if NAMES + COSINE * len(found.adapters) <= width else 0
    cosine = {frozenset((pair.one, pair.other)): pair.whole.cosine for pair in pairs}
    names = [adapter.files.name for adapter in found.adapters]
    grid = Table()
    for head in ("", "adapter", "layers", "rank", "‖ΔW‖", "effective rank", *(f"cos {i + 1}" for i in range(count))):
        grid.add_column(head, justify="left" if head == "adapter" else "right")
    for number, adapter in enumerate(found.adapters, 1):
        beside = ["1" if name == adapter.files.name else shown(cosine[frozenset((name, adapter.files.name))])
                  for name in names] if count else []
        grid.add_row(str(number), Text(one_line(adapter.files.name)), str(len(adapter.modules)),
                     str(adapter.files.r), f"{adapter.norm:.3g}", f"{adapter.effective_rank:.1f}", *beside)
    return grid


def shown(cosine: float | None) -> str:
    return "–" if cosine is None else f"{cosine:.2f}"


def print_tables(found: AdapterPairs) -> None:
    from rich.console import Console

    console, pairs = Console(), list(found.pairs())
    console.print(table(found, pairs, console.width))
    by_cosine = sorted(pairs, key=lambda pair: pair.whole.cosine or 0.0, reverse=True)
    for pair in by_cosine[:MOST_SHOWN]:
        console.print(one_line(pair.verdict), markup=False, highlight=False)
    if left := len(pairs) - MOST_SHOWN if len(pairs) > MOST_SHOWN else 0:
        say_notes([Note("adapters-pairs-left-out", left=left, all=len(pairs))])


@command
def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    found = measured(args.adapters)
    if args.json:
        print_json(found.as_dict())
    else:
        print_tables(found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
