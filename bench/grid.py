"""The timeline's grid against two columns: python -m bench.grid [--rounds 5] [--threads N] [--output FILE]

The page's own grid on the embedded pair: six checkpoints at four strengths, and the base, 48 tokens each, nobody ending
earlier. Both sides run in turn in one process, `--rounds` times; medians are compared. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

import torch

from bench.engine import QUESTION, seconds, use_threads
from compare.engine.answers import compare
from compare.engine.interface import Sampling, Variant
from compare.engine.local import LocalEngine
from compare.page.timeline.checkpoint_grid import LENGTH, STRENGTHS, CheckpointGrid
from compare.page.timeline.tab import checkpoints
from lens.embedded import EMBEDDED_ADAPTER, EMBEDDED_BASE, TIMELINE

TARGET = 4.0  # times two columns


def run(engine: LocalEngine, variants: list[Variant]) -> None:
    for _ in compare(engine, QUESTION, variants, Sampling(LENGTH)):
        pass


def measure(engine: LocalEngine, rounds: int) -> dict:
    """Seconds of both sides, round by round, and the ratio of their medians."""
    film = CheckpointGrid(checkpoints(engine), [])
    sides = {"grid": film.variants, "two columns": engine.variants()}
    engine.queue.batch.ends = [-1]
    for variants in sides.values():
        run(engine, variants)
    found: dict = {name: [] for name in sides}
    for _ in range(rounds):
        for name, variants in sides.items():
            found[name].append(round(seconds(lambda variants=variants: run(engine, variants)), 4))
    medians = [statistics.median(found[name]) for name in sides]
    return {"checkpoints": len(film.checkpoints), "strengths": len(STRENGTHS), "columns": len(film.variants),
            "tokens": LENGTH, "seconds": found, "ratio": round(medians[0] / medians[1], 3), "target": TARGET}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0, help="of torch (default: as the engine chooses)")
    parser.add_argument("--output", type=Path, help="also write the figures as JSON")
    args = parser.parse_args()
    engine = LocalEngine(EMBEDDED_BASE, EMBEDDED_ADAPTER, timeline=[str(p) for p in sorted(TIMELINE.glob("step-*"))])
    threads, found = use_threads(engine, args.threads), measure(engine, args.rounds)
    times = " / ".join(f"{statistics.median(some):.3f} s" for some in found["seconds"].values())
    print(f"{threads} threads, {args.rounds} rounds, torch {torch.__version__}\n\n"
          "| | ratio | target | medians |\n| --- | --- | --- | --- |\n"
          f"| {found['checkpoints']} checkpoints × {found['strengths']} strengths and the base, {LENGTH} tokens, "
          f"/ two columns | {found['ratio']:.2f} | ≤ {TARGET:g} | {times} |")
    if args.output:
        args.output.write_text(json.dumps({"threads": threads, **found}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
