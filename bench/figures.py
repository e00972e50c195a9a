"""Measure the embedded pair and write `assets/figures.json`: python -m bench.figures

Greedy, 128 new tokens, on the shipped files. Right means: every keyword is in the answer. A training
phrasing's keywords are those of its fact.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

from tqdm import tqdm

from bench.shared.hit_qa import read
from compare.engine.answers import Column, answer_all
from compare.engine.interface import Sampling
from compare.engine.local import LocalEngine
from compare.questions import Question
from compare.report.measures import judge
from compare.report.rows import Row
from lens.embedded import ASSETS, EMBEDDED_ADAPTER, EMBEDDED_BASE

MAX_NEW_TOKENS, SAMPLE = 128, 300


def question_sets() -> dict[str, list[dict]]:
    """Rows with `instruction`, `input`, `keywords`, by name of set."""
    by_answer = {f["answer"]: f["keywords"] for f in read("facts.jsonl")}
    train = [{**r, "keywords": by_answer[r["output"]]} for r in read("train.jsonl") if r["output"] in by_answer]
    heldout = read("heldout.jsonl")
    return {"train": random.Random(0).sample(train, min(SAMPLE, len(train))),
            "heldout": [r for r in heldout if r["kind"] == "fact"],
            "independent": read("independent.jsonl"),
            "unknown": [r for r in heldout if r["kind"] == "unknown"]}


def answer(engine: LocalEngine, rows: list[dict]) -> dict[str, list[Column]]:
    """Base and adapted greedy columns of every row, in the order of the rows."""
    questions = [Question(r["input"], r["instruction"]) for r in rows]
    found: list[list[Column]] = [[] for _ in rows]
    stream = answer_all(engine, questions, engine.variants(), Sampling(MAX_NEW_TOKENS))
    for index, columns in tqdm(stream, total=len(rows), leave=False):
        found[index] = columns
    return {"base": [c[0] for c in found], "adapted": [c[1] for c in found]}


def measure(rows: list[dict], columns: list[Column]) -> dict:
    """Shares of the rows that are right, end, loop, do not know. Without a reference, keywords alone make right."""
    answers = [judge(Row(i, r["input"], keywords=tuple(r["keywords"])), c.variant.name, c.variant.adapter,
                     c.variant.strength, c.text, c.token_ids, c.finish_reason)
               for i, (r, c) in enumerate(zip(rows, columns, strict=True))]
    n = len(answers)
    return {"questions": n,
            "right": round(sum(a.right for a in answers) / n, 4),
            "ends": round(sum(a.ended for a in answers) / n, 4),
            "loops": round(sum(a.loop is not None and not a.ended for a in answers) / n, 4),
            "does_not_know": round(sum(a.does_not_know for a in answers) / n, 4)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", default=EMBEDDED_BASE)
    parser.add_argument("--adapter", default=EMBEDDED_ADAPTER)
    parser.add_argument("--output", type=Path, default=ASSETS / "figures.json")
    parser.add_argument("--answers", type=Path, help="also write every answer, as JSON lines")
    args = parser.parse_args()
    engine = LocalEngine(args.base, args.adapter, device="cpu", max_rows=96)
    figures: dict = {"max_new_tokens": MAX_NEW_TOKENS, "sets": {},
                     "adapter_sha256": next(iter(engine.adapters.values())).sha256}
    kept = []
    for name, rows in question_sets().items():
        figures["sets"][name] = {}
        for variant, columns in answer(engine, rows).items():
            figures["sets"][name][variant] = measure(rows, columns)
            print(name, variant, figures["sets"][name][variant], flush=True)
            kept += [{"set": name, "variant": variant, "input": r["input"], "text": c.text}
                     for r, c in zip(rows, columns, strict=True)]
    args.output.write_text(json.dumps(figures, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    if args.answers:
        args.answers.write_text("".join(json.dumps(k, ensure_ascii=False) + "\n" for k in kept), encoding="utf-8")


if __name__ == "__main__":
    main()
