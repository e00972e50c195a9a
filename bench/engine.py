"""The engine against what people do today, as ratios: python -m bench.engine [--rounds 5] [--threads N] [--only TEXT]

`embedded`: the shipped pair. `wide`: a random BLOOM of 8 layers, 512 wide, with BLOOM's 250,880-word vocabulary
and a random adapter. `--base` and `--adapter`: any other pair. Every ratio's two sides run in turn in one process,
`--rounds` times; medians are compared.
Busy: with two processes beside it that compute without end. Both sides may use all threads, or `--threads`; for little
work the engine uses one.
Prints a Markdown table and, with `--output`, writes the figures as JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from lens.threads import wait_passively

wait_passively()  # before torch is loaded

import torch

from bench.shared.by_transformers import toggled
from bench.shared.hit_qa import held_out
from bench.shared.peak import forget_peak, peak
from bench.shared.random_base import copies, random_pair
from compare.engine.answers import answer_all, compare
from compare.engine.interface import BASE, Question, Sampling, Variant
from compare.engine.local import LocalEngine
from lens.embedded import EMBEDDED_ADAPTER, EMBEDDED_BASE

QUESTION = Question("哈尔滨工业大学的校训是什么？")
TOKENS = 128
GAP = "worst gap between an answer's tokens while questions of the whole window join, ms"
MEMORY = "memory above one copy, two columns of 512 tokens, in copies"


def run(engine: LocalEngine, variants: list[Variant], whole: bool = True) -> None:
    """Answer the question under these variants. `whole`: nobody ends before 128."""
    engine.queue.batch.ends = [-1] if whole else engine.loaded.ends
    for _ in compare(engine, QUESTION, variants, Sampling(TOKENS)):
        pass


def generated(engine: LocalEngine, whole: bool = True, off: Sequence[bool] = (True, False)) -> None:
    """Both answers as they are made today, on the engine's own model, or one of them."""
    toggled(engine.loaded.model, engine.tokens.prompt_ids(QUESTION.text), TOKENS, TOKENS if whole else 0, off)


def answered(engine: LocalEngine, questions: list[Question], at_once: bool) -> None:
    """Base and adapted answers to all questions."""
    engine.queue.batch.ends = [-1]
    variants = [BASE, Variant("on", next(iter(engine.adapters)), 1.0)]
    for part in [questions] if at_once else [[q] for q in questions]:
        for _ in answer_all(engine, part, variants, Sampling(TOKENS)):
            pass


def prompt_of(engine: LocalEngine, tokens: int) -> str:
    """A question whose prompt has about so many tokens, and no more."""
    text = "规格严格，功夫到家。" * (tokens // 5)
    while len(engine.tokens.prompt_ids(text)) > tokens:
        text = text[:-1]
    return text


def first_token(engine: LocalEngine, prompt: str, variants: list[Variant]) -> None:
    next(compare(engine, Question(prompt), variants, Sampling(1)))


def forward(engine: LocalEngine, prompt: str, variants: list[Variant]) -> None:
    ids = engine.tokens.prompt_ids(prompt)
    engine.logits(engine.states([ids] * len(variants), variants)[:, -1])


def ratios(engine: LocalEngine) -> dict[str, tuple[Callable, Callable, str]]:
    """What is timed against what, and the target."""
    names = list(engine.adapters)
    one, two = [Variant("on", names[0], 1.0)], [BASE, Variant("on", names[0], 1.0)]
    twelve = [Variant(f"{n}@{s}", n, s) for n in names[:4] for s in (0.5, 1.0, 1.5)]
    sixteen, long = held_out(16), prompt_of(engine, 200)
    return {
        "two columns / one, 128 tokens": (lambda: run(engine, two), lambda: run(engine, one), "≤ 1.15"),
        "both answers / two toggled generate(), 128 tokens": (lambda: run(engine, two), lambda: generated(engine),
                                                              "≤ 0.4"),
        "the same, ending when they end": (lambda: run(engine, two, False), lambda: generated(engine, False), "≤ 0.8"),
        "12 columns / two": (lambda: run(engine, twelve), lambda: run(engine, two), "≤ 1.8"),
        "one column / one generate(), 128 tokens": (lambda: run(engine, one), lambda: generated(engine, off=[False]),
                                                    "≤ 1.15"),
        "8 questions one by one / at once": (lambda: answered(engine, sixteen[:8], False),
                                             lambda: answered(engine, sixteen[:8], True), "≥ 4"),
        "16 questions one by one / at once": (lambda: answered(engine, sixteen, False),
                                              lambda: answered(engine, sixteen, True), "≥ 6"),
        "first token / forward, 200-token prompt": (lambda: first_token(engine, long, two),
                                                    lambda: forward(engine, long, two), "≤ 1.3"),
        "busy / quiet, two columns": (beside_others(lambda: run(engine, two)), lambda: run(engine, two), "≤ 2.5"),
        "busy / quiet, 16 questions at once": (beside_others(lambda: answered(engine, sixteen, True)),
                                               lambda: answered(engine, sixteen, True), "≤ 2.5"),
    }


@contextmanager
def busy(processes: int = 2) -> Iterator[None]:
    """So many processes beside this one that compute without end."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def beside_others(call: Callable) -> Callable[[], float]:
    """The call with others busy beside it; what it took, without their start."""
    def timed() -> float:
        with busy():
            return seconds(call)
    return timed


def worst_gap(engine: LocalEngine) -> float:
    """Seconds, at most, between two tokens of an answer while questions that nearly fill the window join, one after
    the other."""
    engine.queue.batch.ends = [-1]
    text = "规格严格，功夫到家。" * 400
    while len(engine.tokens.prompt_ids(text)) > engine.facts.window - 8:
        text = text[:-20]
    over = threading.Event()

    def join() -> None:
        while not over.is_set():
            for _ in compare(engine, Question(text), sampling=Sampling(2), cancelled=over):
                pass

    stream, gaps = compare(engine, QUESTION, sampling=Sampling(1500, temperature=1.0)), []
    next(stream)
    visitor, last = threading.Thread(target=join), time.perf_counter()
    visitor.start()
    for _ in stream:
        gaps.append(time.perf_counter() - last)
        last += gaps[-1]
        if len(gaps) == 300:
            break
    over.set()
    stream.close()
    visitor.join()
    return max(gaps)


def seconds(call: Callable) -> float:
    """What the call took, or says that it took."""
    began = time.perf_counter()
    said = call()
    return said if isinstance(said, float) else time.perf_counter() - began


def measure(engine: LocalEngine, rounds: int, only: str) -> dict[str, dict]:
    found = {}
    for name, (left, right, target) in ratios(engine).items():
        if only not in name:
            continue
        left(), right()
        pairs = [(seconds(left), seconds(right)) for _ in range(rounds)]
        a, b = (statistics.median(side) for side in zip(*pairs, strict=True))
        found[name] = {"ratio": round(a / b, 3), "target": target, "seconds": [round(a, 4), round(b, 4)]}
        print(f"| {name} | {a / b:.2f} | {target} | {a:.3f} s / {b:.3f} s |", flush=True)
    return found


def memory(base: str, adapter: str, dtype: str) -> float:
    """Peak memory above the loaded engine for two columns of 512 tokens, over a copy's size; a process of its own."""
    engine = LocalEngine(base, adapter, dtype=dtype)
    engine.queue.batch.ends = [-1]
    size = sum(p.numel() * p.element_size() for p in engine.loaded.model.parameters())
    variants = engine.variants()
    next(compare(engine, QUESTION, variants, Sampling(1)))  # first use loads kernels
    if not (before := forget_peak()):
        raise RuntimeError("the system does not say what memory a process holds; Linux does")
    for _ in compare(engine, QUESTION, variants, Sampling(512)):
        pass
    return (peak() - before) / size


def memory_apart(base: str, adapter: str, dtype: str) -> float:
    """`memory` in a child process."""
    child = subprocess.run([sys.executable, "-m", "bench.engine", "--memory", base, adapter, "--dtype", dtype],
                           capture_output=True, text=True, check=True)
    return float(child.stdout.splitlines()[-1])


def use_threads(engine: LocalEngine, threads: int) -> int:
    """Let generate() and the engine use at most so many threads, 0: as it is; returns how many that is."""
    if threads:
        torch.set_num_threads(threads)
        engine.loaded.decoder.threads = threads
    return engine.loaded.decoder.threads


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=["embedded", "wide"], default="embedded")
    parser.add_argument("--base", type=Path, help="directory of another base, beside its --adapter")
    parser.add_argument("--adapter", type=Path)
    parser.add_argument("--dtype", default="auto", help="default: auto")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0, help="at most, for both sides (default: one a core)")
    parser.add_argument("--only", default="", help="the ratios with this in their name, such as 12")
    parser.add_argument("--output", type=Path, help="also write the figures as JSON")
    parser.add_argument("--memory", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if bool(args.base) != bool(args.adapter):
        parser.error("--base and --adapter go together")
    if args.memory:
        print(memory(*args.memory, args.dtype))
        return
    with tempfile.TemporaryDirectory() as folder:
        if args.base:
            base, adapters = str(args.base), copies(args.adapter, Path(folder), 4)
        elif args.shape == "wide":
            base, adapters = random_pair(Path(folder), 4)
        else:
            base, adapters = EMBEDDED_BASE, copies(Path(EMBEDDED_ADAPTER), Path(folder), 4)
        engine, name = LocalEngine(base, adapters, dtype=args.dtype), Path(base).name if args.base else args.shape
        threads = use_threads(engine, args.threads)
        print(f"{name}, {engine.facts.dtype}, up to {threads} threads, {args.rounds} rounds, "
              f"torch {torch.__version__}\n\n"
              "| | ratio | target | medians |\n| --- | --- | --- | --- |")
        found = measure(engine, args.rounds, args.only)
        if args.only in MEMORY:
            found[MEMORY] = {"ratio": round(memory_apart(base, adapters[0], args.dtype), 3), "target": "≤ 0.2"}
            print(f"| {MEMORY} | {found[MEMORY]['ratio']:.2f} | ≤ 0.2 | |")
        if args.only in GAP:
            gaps = [worst_gap(engine) for _ in range(args.rounds)]
            found[GAP] = {"milliseconds": [round(1000 * gap, 1) for gap in gaps], "target": "≤ 100"}
            print(f"| {GAP} | {1000 * statistics.median(gaps):.0f} | ≤ 100 | worst of all {1000 * max(gaps):.0f} ms |")
    if args.output:
        figures = {"shape": name, "dtype": engine.facts.dtype, "threads": threads, "rounds": args.rounds, **found}
        args.output.write_text(json.dumps(figures, ensure_ascii=False, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
