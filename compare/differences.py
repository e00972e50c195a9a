"""python -m compare.differences: what an adapter changes on texts that nobody asked about."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from compare.corpus.measured import Measured, MeasuredFile, key_of
from compare.corpus.texts import Corpus
from compare.corpus.totals import Totals
from compare.engine.interface import BASE, Engine, Variant
from compare.options import (
    add_part_options,
    add_run_options,
    check_limit,
    ended_by_a_full_disk,
    in_part,
    load_engine,
    row_options,
)
from compare.report.pages import filled
from compare.report.report_files import make_directory, write_files
from lens.base.files import find_base
from lens.base.identity import base_identity
from lens.cli import Parser, command, interruptible, print_json, say_notes
from lens.errors import BadAdapter, BadRows, BadSetting, Note
from lens.strict_json import dumps

TEMPLATES = Path(__file__).parent / "corpus"


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(prog="python -m compare.differences",
                    description="Read texts under base and adapted model side by side: what changes, where, how much.")
    parser.add_argument("--data", type=Path, nargs="+", required=True, metavar="FILE",
                        help="plain text (.txt, .md), a text a line, or rows in any format that training reads")
    add_run_options(parser, "result", "texts")
    add_part_options(parser)
    return parser.parse_args(argv)


def adapted_of(engine: Engine, args: argparse.Namespace) -> Variant:
    """The one adapted variant. Raises BadAdapter where there is none, BadSetting where there are several."""
    adapted = [variant for variant in in_part(engine.variants(), args) if variant.adapter]
    if not adapted:
        raise BadAdapter("evaluation-without-adapter", base=args.base)
    if len(adapted) > 1:
        raise BadSetting("differences-several-adapters", count=len(adapted))
    return adapted[0]


def measure(engine: Engine, adapted: Variant, corpus: Corpus, limit: int | None, file: MeasuredFile,
            settings: dict) -> Iterator[Measured]:
    """Each text under both models, from one forward of two rows, or as an earlier run left it."""
    from tqdm import tqdm

    texts = islice(corpus.texts(engine.tokens, engine.facts.window), limit)
    for text in tqdm(texts, unit="text", file=sys.stderr, disable=None, leave=False, total=limit):
        key = key_of(text, settings)
        found = file.next(key)
        if found is None:
            found = Measured.of(key, text, engine.score(text.prompt_ids, [text.ids], BASE, adapted)[0])
            file.append(found)
        yield found


def differences(engine: Engine, corpus: Corpus, args: argparse.Namespace) -> dict[str, Any]:
    """differences.json's contents; texts.jsonl is written on the way. Raises LensError."""
    totals = Totals()
    adapted = adapted_of(engine, args)
    loaded = engine.adapters[str(adapted.adapter)]
    about = {"base": {"name": engine.facts.base_name, "content": base_identity(find_base(args.base)),
                      "dtype": engine.facts.dtype},
             "adapter": {"name": adapted.name, "sha256": loaded.sha256, "strength": adapted.strength, **adapted.part}}
    with MeasuredFile(args.output / "texts.jsonl") as file:
        for text in measure(engine, adapted, corpus, args.limit, file, {**about, "made_by": loaded.decides}):
            totals.add(text)
        if file.kept:
            say_notes([Note("differences-kept", count=file.kept)])
    say_notes(corpus.notes())
    if not totals.whole.texts:
        raise BadRows("differences-empty", paths=", ".join(map(str, args.data))[:200])
    return {**about, "data": [path.name for path in args.data], **totals.as_dict()}


def write(found: dict[str, Any], directory: Path) -> None:
    """differences.json, .md and .html, each in one move."""
    pages = {name: filled(TEMPLATES / f"{name}.jinja", found=found) for name in ("differences.md", "differences.html")}
    texts = {"differences.json": dumps(found, indent=1) + "\n", **pages}
    write_files(directory, {name: text.encode("utf-8", "replace") for name, text in texts.items()})


@command
def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    check_limit(args.limit)
    corpus = Corpus(args.data, row_options(args))
    corpus.check()
    make_directory(args.output)
    kept = f"interrupted: what was read is kept in {args.output}; the same command goes on from there"
    with ended_by_a_full_disk(args.output), interruptible(kept):
        with load_engine(args) as engine:
            say_notes(engine.notes)
            found = differences(engine, corpus, args)
        write(found, args.output)
    print_json({"differences": str(args.output / "differences.html"),
                "summary": [said["message"] for said in found["summary"]]})
    return 0


if __name__ == "__main__":
    sys.exit(main())
