"""python -m bench.trust [PART …]: hostile input, load and crashes; figures into figures.json and a table on stdout.

Exit status 1 where a promise of SECURITY.md was broken; each fault is a line on stderr.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import json
import os
import platform
import sys
import time
from pathlib import Path

from bench.trust.found import Found

FIGURES = Path(__file__).with_name("figures.json")
# Each part, and the options it takes.
PARTS = {
    "text": ("count",),
    "drawing": ("count",),
    "files": (),
    "access": (),
    "load": ("clients", "seconds"),
    "crashes": ("kills",),
}


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.trust", description="Hostile input, load and crashes, measured."
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)} (default: all)")
    parser.add_argument("--count", type=int, default=10_000, help="generated texts a way in (default: 10000)")
    parser.add_argument("--clients", type=int, default=64, help="visitors at once under load (default: 64)")
    parser.add_argument("--seconds", type=float, default=120, help="of load (default: 120)")
    parser.add_argument("--kills", type=int, default=10, help="of each kind of process (default: 10)")
    parser.add_argument("--figures", type=Path, default=FIGURES, metavar="FILE", help="where figures are kept")
    args = parser.parse_args(argv)
    if odd := set(args.parts) - set(PARTS):
        parser.error(f"part {sorted(odd)[0]!r}; allowed: {', '.join(PARTS)}")
    args.parts = args.parts or list(PARTS)
    return args


def run(part: str, args: argparse.Namespace) -> Found:
    """Run one part; each is imported when its turn comes."""
    return importlib.import_module(f"bench.trust.{part}").run(*(getattr(args, name) for name in PARTS[part]))


def machine() -> str:
    return f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"


def keep(file: Path, part: str, found: Found, seconds: float) -> None:
    """Put one part's figures beside those of the others, whole or not at all."""
    kept = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    kept[part] = {
        "date": datetime.date.today().isoformat(),
        "machine": machine(),
        "wall seconds": round(seconds),
        "faults": len(found.faults),
        **found.figures,
    }
    aside = file.with_suffix(".part")
    aside.write_text(
        json.dumps({name: kept[name] for name in PARTS if name in kept}, ensure_ascii=False, indent=1) + "\n",
        encoding="utf-8",
    )
    aside.replace(file)


def table(figures: dict[str, dict]) -> str:
    lines = ["| part | measured | |", "| --- | --- | ---: |"]
    lines += [
        f"| {part} | {name} | {json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else value} |"
        for part, found in figures.items()
        for name, value in found.items()
    ]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    args, faults = parse(argv), 0
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    for part in args.parts:
        began = time.monotonic()
        try:
            found = run(part, args)
        except KeyboardInterrupt:
            return 130
        keep(args.figures, part, found, time.monotonic() - began)
        faults += len(found.faults)
        for fault in found.faults:
            print(f"fault in {part}: {fault}", file=sys.stderr)
    print(table(json.loads(args.figures.read_text(encoding="utf-8"))))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
