"""Everything that is claimed of a GPU, on the one that is here: bash bench/gpu.sh [--tiny]

Under 8 minutes on one card; writes bench/results/<card>.json, a section at a time. Exactness first: answers of the
embedded pair in float32 token for token those of toggled `generate()`; of a random base of bloom-1b1's shape in
bfloat16 the same, or parted where rounding decides. Then speed of that base: steps captured as graphs, eager steps and
toggled `generate()` in turn in one process; what a step is made of; and training beside transformers' Trainer.
`--tiny`: the same path on a CPU with a tiny base, to hold the script itself. `--tables`: measure nothing, fill the
table of bench/README.md from what is in bench/results.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch

from bench.engine import QUESTION, TOKENS, answered, first_token, generated, prompt_of, run, seconds
from bench.figures import fill
from bench.shared.by_transformers import toggled
from bench.shared.card import about, copy_rate, matmul_rate, peak_of, profiled
from bench.shared.hit_qa import held_out
from bench.shared.random_base import random_pair
from bench.train import SHAPES, run_child
from compare.engine.answers import answer_all
from compare.engine.interface import BASE, Question, Sampling, Variant
from compare.engine.local import LocalEngine
from compare.engine.open_question import OpenQuestion
from compare.models.receipt import EPSILONS
from lens.embedded import EMBEDDED_ADAPTER, EMBEDDED_BASE

RESULTS = Path(__file__).parent / "results"
TINY = {"vocab_size": 8064, "hidden_size": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.2}
LARGE = {"vocab_size": 250_880, **SHAPES["bloom-1b1"], "initializer_range": 0.05}
BEFORE = "30e9d36, H200"
# A row, what it was at BEFORE, the goal, at least; ratios and shares are numbers, all others milliseconds.
TABLE = {"one column, a token, ms": (9.88, 1.0, 1.8), "two columns, a token, ms": (8.48, 1.2, 2.2),
         "two columns : two toggled generate()": (0.34, 0.05, 0.09), "12 columns, a step, ms": (9.05, 1.9, 2.5),
         "32 rows, a step, ms": (11.95, 2.6, 3.5), "64 rows, a step, ms": (14.16, 3.5, 5.0),
         "first token, prompt of 200, ms": (9.7, 4.0, 6.0),
         "training, batch 8, rows/s : Trainer with full logits": (0.92, 2.0, 1.5),
         "training, peak above the model : Trainer": (0.60, 0.33, 0.4),
         "training, share of peak FLOP/s, large batch": (0.021, 0.3, 0.15)}
TIMED, TRAINED = tuple(TABLE)[:7], tuple(TABLE)[7:]


def exactness(engine: LocalEngine, questions: list[Question], exact: bool) -> dict:
    """Each answer beside toggled `generate()`'s. `right`: all are the same ids, or, unless `exact`, part where the two
    best logits lie as near to each other as rounding in the model's dtype."""
    model, ends = engine.loaded.model, engine.loaded.ends
    engine.queue.batch.ends = ends
    variants = [BASE, Variant("on", next(iter(engine.adapters)), 1.0)]
    same, parted, near = 0, [], EPSILONS * torch.finfo(engine.loaded.dtype).eps
    for _, columns in answer_all(engine, questions, variants, Sampling(TOKENS)):
        prompt = list(columns[0].prompt_ids)
        for side, (column, made) in enumerate(zip(columns, toggled(model, prompt, TOKENS), strict=True)):
            expected = made[:next((i for i, token in enumerate(made) if token in ends), len(made))]
            if column.token_ids == expected:
                same += 1
            else:
                parted.append(gap(model, prompt, column.token_ids, expected, base=side == 0))
    right = not parted if exact else all(one["gap"] <= near * one["largest"] for one in parted)
    return {"answers": 2 * len(questions), "same": same, "parted": parted, "allowed": 0 if exact else near,
            "right": right, "steps": engine.load().steps}


@torch.inference_mode()
def gap(model: Any, prompt: list[int], found: list[int], expected: list[int], base: bool) -> dict:
    """Where two answers part, what lies between the two best logits there, and the largest logit."""
    at = next((i for i, (a, b) in enumerate(zip(found, expected, strict=False)) if a != b),
              min(len(found), len(expected)))
    with model.disable_adapter() if base else nullcontext():
        logits = model(input_ids=torch.tensor([prompt + expected[:at]], device=model.device)).logits[0, -1].float()
    best = logits.topk(2).values
    return {"at": at, "gap": (best[0] - best[1]).item(), "largest": logits.abs().max().item()}


def timed(engine: LocalEngine) -> dict[str, Callable[[], object]]:
    """Row of the table → what takes its time."""
    names = list(engine.adapters)
    two = [BASE, Variant("on", names[0], 1.0)]
    twelve = [Variant(f"{n}@{s}", n, s) for n in names[:4] for s in (0.5, 1.0, 1.5)]
    calls = (lambda: run(engine, two[1:]), lambda: run(engine, two), None, lambda: run(engine, twelve),
             lambda: answered(engine, held_out(16), True), lambda: answered(engine, held_out(32), True),
             partial(first_token, engine, prompt_of(engine, 200), two))
    return {row: call for row, call in zip(TIMED, calls, strict=True) if call}


def speed(engines: dict[str, LocalEngine], rounds: int) -> dict:
    """Milliseconds a step (answers of 128 tokens, reading the prompt included) or a first token: median of rounds in
    which all take turns, after one to warm up."""
    calls = {(who, row): call for who, engine in engines.items() for row, call in timed(engine).items()}
    calls["generate", TIMED[1]] = lambda: generated(next(iter(engines.values())))
    taken: dict[tuple[str, str], list[float]] = {key: [] for key in calls}
    for turn in range(rounds + 1):
        for (who, row) in sorted(calls, key=lambda key: TIMED.index(key[1])):
            took = seconds(calls[who, row])
            if turn:
                taken[who, row].append(1000 * took / (1 if row == TIMED[6] else TOKENS))
    found: dict[str, dict[str, float]] = {}
    for (who, row), several in taken.items():
        found.setdefault(who, {})[row] = statistics.median(several)
    for who in engines:
        found[who][TIMED[2]] = found[who][TIMED[1]] / found["generate"][TIMED[1]]
    return {**found, "steps": {who: engine.load().steps for who, engine in engines.items()}}


@torch.inference_mode()
def one_step(engine: LocalEngine, device: str) -> dict:
    """What a step of two columns is made of; here, while the model's thread has nothing to do, because the profiler
    wants the thread that first loaded it."""
    batch, two = engine.queue.batch, [BASE, Variant("on", next(iter(engine.adapters)), 1.0)]
    prompts = engine.prompts(QUESTION, two, Sampling())
    batch.ends = [-1]
    prefill = batch.prefill(OpenQuestion(prompts, two, Sampling(TOKENS), lambda event: None))
    while prefill.advance():
        pass
    batch.enter(prefill)
    for _ in range(3):
        batch.step()
    found = profiled(device, batch.step)
    batch.put_back()
    batch.clear()
    return found


def training(tiny: bool, card: str) -> dict:
    """Ours and transformers' Trainer in turn, a process each; then ours alone on a batch that fills a card."""
    args = Namespace(shape="tiny" if tiny else "bloom-1b1", batch=8, steps=2 if tiny else 8, threads=0, against=None,
                     device="cpu" if tiny else "cuda", dtype="float32" if tiny else "bfloat16",
                     scratch=tempfile.mkdtemp())
    found: dict[str, list[dict]] = {"lens": [], "trainer": []}
    for _ in range(1 if tiny else 2):
        for who, several in found.items():
            several.append(run_child(args, who, "hit_qa"))
    large = run_child(Namespace(**{**vars(args), "batch": 2 if tiny else 32}), "lens", "long")
    median = {(who, what): statistics.median(one[what] for one in several) for who, several in found.items()
              for what in ("rows_per_second", "peak")}
    peak = peak_of(card)
    figures = (median["lens", "rows_per_second"] / median["trainer", "rows_per_second"],
               median["lens", "peak"] / median["trainer", "peak"], large["flops_per_second"] / peak if peak else None)
    return {"rounds": found, "large": large, "table": dict(zip(TRAINED, figures, strict=True))}


def sections(tiny: bool) -> Iterator[tuple[str, Callable[[], dict]]]:
    """Name and what measures it, in order; what a section needs is loaded before it."""
    device, facts = ("cpu", {}) if tiny else ("cuda", {})
    yield "about", lambda: facts.update(about(device)) or facts
    yield "limits", lambda: {"copy_bytes_per_second": copy_rate(device, 1 << (22 if tiny else 30)),
                             "bfloat16_flops_per_second": matmul_rate(device, 128 if tiny else 8192)}
    questions = held_out(2 if tiny else 6)
    with LocalEngine(EMBEDDED_BASE, EMBEDDED_ADAPTER, device, "float32", static=True) as embedded:
        yield "float32", lambda: exactness(embedded, questions, exact=True)
    with tempfile.TemporaryDirectory() as folder:
        base, adapters = random_pair(Path(folder), 4, **(TINY if tiny else LARGE))
        dtype = "float32" if tiny else "bfloat16"
        with LocalEngine(base, adapters, device, dtype, static=True) as graphs:
            yield dtype if not tiny else "large", lambda: exactness(graphs, questions, exact=False)
            with LocalEngine(base, adapters, device, dtype, static=False) as eager:
                yield "speed", lambda: speed({"static": graphs, "eager": eager}, 1 if tiny else 3)
            yield "step", lambda: one_step(graphs, device)
            if not tiny:
                yield "memory", lambda: {"peak_bytes": torch.cuda.max_memory_allocated()}
    yield "training", lambda: training(tiny, facts["card"])


def measure(tiny: bool, output: Path | None) -> int:
    """All sections, each written as soon as it is there; returns the exit code, 1 where one failed or is not right."""
    found: dict[str, Any] = {"tiny": tiny, "seconds": {}}
    bad = []
    for name, section in sections(tiny):
        began = time.perf_counter()
        try:
            found[name] = section()
        except (Exception, SystemExit) as err:  # noqa: BLE001 (the other sections are worth having)
            found[name] = {"failed": f"{type(err).__name__}: {err}"}
        found["seconds"][name] = round(time.perf_counter() - began, 1)
        bad += [name] if "failed" in found[name] or not found[name].get("right", True) else []
        if "about" in found and output is None:
            output = RESULTS / f"{re.sub('[^A-Za-z0-9]+', '-', found['about']['card']).strip('-')}.json"
        assert output
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(found, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        print(f"{name}, {found['seconds'][name]} s: {json.dumps(found[name], ensure_ascii=False)[:300]}", flush=True)
    found["complete"] = not bad
    output.write_text(json.dumps(found, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    print(f"written: {output}" + (f"; failed or not right: {', '.join(bad)}" if bad else ""))
    return bool(bad)


def table(results: list[dict]) -> str:
    """Markdown: a column for each card that the code has run on, and no figure for any other."""
    cards = [one for one in results if not one["tiny"] and one.get("complete")]
    names = [f"{one['about']['commit']}, {one['about']['card']}" for one in cards] or ["this code"]
    lines = [f"| | {BEFORE} | goal | at least | {' | '.join(names)} |", "| --- " * (4 + len(names)) + "|"]
    for row, known in TABLE.items():
        cells = [{**one["speed"]["static"], **one["training"]["table"]}.get(row) for one in cards]
        shown = [f"{cell:.2f}" if cell is not None else "–" for cell in cells] or ["not measured"]
        lines.append(f"| {row} | {' | '.join(f'{n:g}' for n in known)} | {' | '.join(shown)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiny", action="store_true", help="the same path on a CPU, with a tiny base")
    parser.add_argument("--output", type=Path, help="of the JSON (default: bench/results/<card>.json)")
    parser.add_argument("--tables", action="store_true", help="only fill the table of bench/README.md")
    args = parser.parse_args()
    if not args.tables:
        if not args.tiny and not torch.cuda.is_available():
            parser.error("there is no CUDA device here; --tiny tries the script on the processor")
        output = args.output or (Path(tempfile.mkdtemp()) / "tiny.json" if args.tiny else None)
        if failed := measure(args.tiny, output):
            sys.exit(failed)
    if not args.tiny:
        found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob("*.json"))]
        fill(RESULTS.parent / "README.md", "gpu", table(found))


if __name__ == "__main__":
    main()
