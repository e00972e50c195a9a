"""What a BLOOM takes on a CPU, measured beside what its shape says: python -m bench.sizes [--models bloom-560m …]

A random BLOOM of the published shape, stored in float16 as the published ones are, with the embedded tokenizer and a
random adapter. One process loads it in float32 and answers in two columns of 128 tokens; another trains two steps
by `python -m train`, 16 rows each. Prints a Markdown table; computed and measured stand in columns of their own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from compare.page.shared.model_sizes import FULL, SIZES, TRAINED, human

SHAPES = {shape.name: shape for shape in SIZES}
HEADS = {"bloom-560m": 16, "bloom-1b1": 16, "bloom-1b7": 16, "bloom-3b": 32, "bloom-7b1": 32}  # of each config.json
QUESTION = "哈尔滨工业大学的校训是什么？"
TOKENS = 128
RUN = ("--logging-steps", "1", "--probe-steps", "0", "--save-steps", "1000", "--warmup-steps", "0", "--device", "cpu")


@dataclass(frozen=True)
class Ran:
    """One process: what it printed, how long it took, the most memory it held (bytes)."""

    printed: str
    seconds: float
    peak: int


def run(*arguments: object) -> Ran:
    """`python -m` with these. This process stays small, because a child's peak begins at its parent's size."""
    began = time.perf_counter()
    child = subprocess.Popen([sys.executable, "-m", *map(str, arguments)], stdout=subprocess.PIPE, text=True)
    assert child.stdout
    printed = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        sys.exit(f"error: {' '.join(map(str, arguments))} ended with {child.returncode}")
    return Ran(printed, time.perf_counter() - began, usage.ru_maxrss * 1024)


def write(name: str, folder: Path) -> None:
    """A random base of this shape and an adapter for it, in `folder`."""
    from peft import LoraConfig, get_peft_model

    from bench.shared.random_base import write_random_base

    shape = SHAPES[name]
    model = write_random_base(folder / "base", vocab_size=shape.vocab_size, hidden_size=shape.hidden_size,
                              n_layer=shape.n_layer, n_head=HEADS[name])
    model.half().save_pretrained(folder / "base")
    lora = LoraConfig(task_type="CAUSAL_LM", r=8, lora_alpha=8, target_modules=["query_key_value"],
                      init_lora_weights=False)
    get_peft_model(model, lora).save_pretrained(folder / "adapter", save_embedding_layers=False)


def serve(folder: Path) -> dict:
    """Seconds to load base and adapter with its proof, and to answer in both columns, nobody ending before 128."""
    from compare.engine.answers import compare
    from compare.engine.interface import Question, Sampling
    from compare.engine.local import LocalEngine

    began = time.perf_counter()
    engine = LocalEngine(str(folder / "base"), str(folder / "adapter"), device="cpu", dtype="float32")
    loaded = time.perf_counter()
    engine.queue.batch.ends = [-1]
    for _ in compare(engine, Question(QUESTION), sampling=Sampling(TOKENS)):
        pass
    return {"load": loaded - began, "answer": time.perf_counter() - loaded}


def row(name: str, folder: Path, steps: int) -> list[str]:
    """One model's cells."""
    shape = SHAPES[name]
    run("bench.sizes", "--write", folder, "--models", name)
    served = run("bench.sizes", "--serve", folder)
    took = json.loads(served.printed)
    peak = "–"
    if steps:
        trained = run("train", "--base", folder / "base", "--output", folder / "run", "--max-steps", steps, *RUN)
        peak = human(trained.peak)
    return [name, human(FULL * (shape.parameters + shape.lora())), human(served.peak), f"{took['load']:.0f} s",
            f"{took['answer']:.0f} s", human(FULL * shape.parameters + TRAINED * shape.lora()), peak]


HEADINGS = ("BLOOM", "weights to serve, computed", "peak, measured", "load", "two columns of 128 tokens",
            "weights to train, computed", "peak of training, measured")


def table(rows: Iterable[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (HEADINGS, ["---"] * len(HEADINGS), *rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=HEADS, default=["bloom-560m", "bloom-1b1"])
    parser.add_argument("--steps", type=int, default=2, help="of training; 0: none")
    parser.add_argument("--scratch", type=Path, help="where the random models are written (default: the system's)")
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.write:
        return write(args.models[0], args.write)
    if args.serve:
        return print(json.dumps(serve(args.serve)))
    rows = []
    for name in args.models:
        with tempfile.TemporaryDirectory(dir=args.scratch) as folder:
            rows.append(row(name, Path(folder), args.steps))
    print(table(rows))


if __name__ == "__main__":
    main()
