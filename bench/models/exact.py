"""python -m bench.models.exact BASE [--adapter DIR]: are the answers of one batch, token for token, transformers' own?

All questions are put to the engine at once, with and without the adapter, and to `generate()` one by one, greedily in
float32. Where two answers part, how close the two likeliest tokens were there is told: sums in another order may
decide a tie, and nothing else. Exit code 1 where it was no tie.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from bench.gpu import gap
from bench.shared.by_transformers import adapted, generated, plain
from compare.engine.answers import Column, answer_all
from compare.engine.interface import Question, Sampling
from compare.engine.local import LocalEngine
from lens.embedded import ASSETS
from lens.errors import LensError

GENERAL = ASSETS / "hit_en" / "general.jsonl"
TIE = 1e-4  # of the largest logit, between the two likeliest


@dataclass(frozen=True)
class Compared:
    """One column of all questions. `tokens`: in our answers; `parted`: the gap of the two likeliest tokens where an
    answer parts, as a share of the largest logit; `seconds`: that `generate()` took."""

    column: str
    answers: int
    tokens: int
    parted: tuple[float, ...]
    seconds: float

    @property
    def exact(self) -> bool:
        return all(share < TIE for share in self.parted)


def asked(count: int) -> list[Question]:
    """General questions in English, which any model can be asked."""
    lines = GENERAL.read_text(encoding="utf-8").splitlines()
    return [Question(json.loads(line)["question"]) for line in lines[:count]]


def answered(base: Path, adapter: Path | None, questions: Sequence[Question],
             tokens: int) -> tuple[list[list[Column]], tuple[int, ...], float]:
    """Each question's columns by the engine, the ids that end an answer, and the seconds it took."""
    with LocalEngine(str(base), str(adapter) if adapter else None, "cpu") as engine:
        began = perf_counter()
        found = dict(answer_all(engine, questions, sampling=Sampling(tokens)))
        return [found[i] for i in range(len(questions))], engine.loaded.ends, perf_counter() - began


def compared(model: Any, name: str, columns: Sequence[Column], ends: Sequence[int], tokens: int) -> Compared:
    """One column of every question beside what `model` generates."""
    began, parted = perf_counter(), []
    with contextlib.nullcontext() if name != "base" or not hasattr(model, "disable_adapter") else off(model):
        right = [generated(model, column.prompt_ids, tokens, ends) for column in columns]
        seconds = perf_counter() - began
        for column, wanted in zip(columns, right, strict=True):
            if column.token_ids != wanted:
                with torch.inference_mode():
                    found = gap(model, list(column.prompt_ids), column.token_ids, wanted, base=False)
                parted.append(found["gap"] / found["largest"])
    return Compared(name, len(columns), sum(len(c.token_ids) for c in columns), tuple(parted), seconds)


@contextlib.contextmanager
def off(model: Any) -> Iterator[None]:
    with model.disable_adapter():
        yield


def compare(base: Path, adapter: Path | None, questions: int, tokens: int) -> tuple[list[Compared], float]:
    """Every column, and the seconds that all took in the batch. Raises LensError."""
    told, ends, seconds = answered(base, adapter, asked(questions), tokens)
    model = adapted(base, adapter) if adapter else plain(base)
    names = ["base", *([adapter.name] if adapter else [])]
    return [compared(model, name, [columns[i] for columns in told], ends, tokens)
            for i, name in enumerate(names)], seconds


def table(found: Sequence[Compared], seconds: float) -> str:
    lines = ["| column | answers | tokens | the same | parted at a tie | parted otherwise | generate() |",
             "| --- " * 7 + "|"]
    for one in found:
        wrong = sum(share >= TIE for share in one.parted)
        lines.append(f"| {one.column} | {one.answers} | {one.tokens} | {one.answers - len(one.parted)} "
                     f"| {len(one.parted) - wrong} | {wrong} | {one.seconds:.0f} s |")
    return "\n".join([*lines, "", f"All of them in one batch: {seconds:.0f} s."])


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.models.exact",
                                     description="Answers beside transformers' own.")
    parser.add_argument("base", type=Path)
    parser.add_argument("--adapter", type=Path)
    parser.add_argument("--questions", type=int, default=50)
    parser.add_argument("--tokens", type=int, default=16, help="at most, of an answer (default: 16)")
    args = parser.parse_args(argv)
    try:
        found, seconds = compare(args.base, args.adapter, args.questions, args.tokens)
    except LensError as err:
        print(f"error: {err}", file=sys.stderr)
        return 2
    print(table(found, seconds))
    return 0 if all(one.exact for one in found) else 1


if __name__ == "__main__":
    sys.exit(main())
