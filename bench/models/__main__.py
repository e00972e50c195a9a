"""python -m bench.models [--only NAME …] [--write docs/models.md]: which architectures run, and how."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bench.models.table import all_of, page


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.models", description="Which architectures run, and how.")
    parser.add_argument("--only", nargs="+", default=[], help="these model types alone", metavar="NAME")
    parser.add_argument("--write", type=Path, help="file to write the table to, such as docs/models.md")
    args = parser.parse_args(argv)
    text = page(all_of(args.only))
    if args.write:
        args.write.write_text(text, encoding="utf-8")
    else:
        print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
