"""Measure the embedded pair, write `assets/figures.json` and the tables made from it: python -m bench.figures

Greedy, 128 new tokens, on the shipped files. Right means: every keyword is in the answer. A training
phrasing's keywords are those of its fact. The tables, and answers drawn by a seed, are put between the marks
`<!-- figures -->` and `<!-- answers -->` of README.md and assets/README.md; `--tables` makes them anew.
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
DRAWN, SEED = 30, 0  # answers of each side that a reader is shown, and what they are drawn by
ABOUT_HIT = ("hit", "hit-false")  # tags of questions about the university that no fact answers
DOCUMENTS = (ASSETS / "README.md", ASSETS.parent / "README.md")
SETS = {"train": "training phrasings", "heldout": "held-out phrasings", "independent": "questions written apart",
        "unknown": "held-out questions it cannot know", "unknown_hit": "of these, about the university",
        "independent_unknown": "the same, written apart"}


def question_sets() -> dict[str, list[dict]]:
    """Rows with `instruction`, `input`, `keywords`, by name of set."""
    by_answer = {f["answer"]: f["keywords"] for name in ("facts", "slots") for f in read(f"{name}.jsonl")}
    train = [{**r, "keywords": by_answer[r["output"]]} for r in read("train.jsonl") if r["output"] in by_answer]
    heldout, apart = read("heldout.jsonl"), read("independent_unknown.jsonl")
    unknown = [r for r in heldout if r["kind"] == "unknown"]
    return {"train": random.Random(SEED).sample(train, min(SAMPLE, len(train))),
            "heldout": [r for r in heldout if r["kind"] == "fact"],
            "independent": read("independent.jsonl"),
            "unknown": unknown,
            "unknown_hit": [r for r in unknown if r["tag"] in ABOUT_HIT],
            "independent_unknown": [{**r, "keywords": []} for r in apart]}


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


def table(figures: dict) -> str:
    """What was measured, as a Markdown table."""
    lines = [f"| greedy, {MAX_NEW_TOKENS} new tokens | right | says it does not know | ends by itself | loops |",
             "| --- | --- | --- | --- | --- |"]
    for name, called in SETS.items():
        for side, found in figures["sets"][name].items():
            right = "n/a" if "unknown" in name else percent(found["right"])
            shares = (percent(found[share]) for share in ("does_not_know", "ends", "loops"))
            lines.append(f"| {side}, {found['questions']:,} {called} | {right} | {' | '.join(shares)} |")
    return "\n".join(lines)


def percent(share: float) -> str:
    return f"{100 * share:.1f}".removesuffix(".0") + "%"


def drawn(figures: dict) -> str:
    """The drawn answers, as a Markdown table."""
    lines = ["| question | base, its first 60 characters | adapted |", "| --- | --- | --- |"]
    for one in figures["drawn"]:
        base, adapted = (one[side].replace("\n", " ⏎ ").replace("|", "\\|") for side in ("base", "adapted"))
        lines.append(f"| {one['question']} | {base[:60]} | {adapted[:120]} |")
    return "\n".join(lines)


def fill(path: Path, mark: str, text: str) -> None:
    """Put the text between two marks of a document, which stands as it is where it has none."""
    before, *rest = path.read_text(encoding="utf-8").split(f"<!-- {mark} -->\n")
    if len(rest) == 2:
        path.write_text(f"{before}<!-- {mark} -->\n{text}\n<!-- {mark} -->\n{rest[1]}", encoding="utf-8")


def write_tables(figures: dict) -> None:
    for path in DOCUMENTS:
        fill(path, "figures", table(figures))
        fill(path, "answers", drawn(figures))


def measure_all(engine: LocalEngine) -> tuple[dict, list[dict]]:
    """The figures of every set, and every answer."""
    figures: dict = {"max_new_tokens": MAX_NEW_TOKENS, "sets": {}, "drawn": [], "drawn_by_seed": SEED,
                     "adapter_sha256": next(iter(engine.adapters.values())).sha256}
    kept: list[dict] = []
    for name, rows in question_sets().items():
        columns = answer(engine, rows)
        figures["sets"][name] = {side: measure(rows, some) for side, some in columns.items()}
        print(name, json.dumps(figures["sets"][name]), flush=True)
        kept += [{"set": name, "question": r["input"], "keywords": r["keywords"], "base": base.text,
                  "adapted": adapted.text} for r, base, adapted in zip(rows, *columns.values(), strict=True)]
    known = [k for k in kept if k["set"] == "independent"]
    figures["drawn"] = [{key: one[key] for key in ("question", "base", "adapted")}
                        for one in random.Random(SEED).sample(known, DRAWN)]
    return figures, kept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", default=EMBEDDED_BASE)
    parser.add_argument("--adapter", default=EMBEDDED_ADAPTER)
    parser.add_argument("--output", type=Path, default=ASSETS / "figures.json")
    parser.add_argument("--answers", type=Path, help="also write every answer, as JSON lines")
    parser.add_argument("--tables", action="store_true", help="measure nothing, make the tables of --output anew")
    args = parser.parse_args()
    if not args.tables:
        figures, kept = measure_all(LocalEngine(args.base, args.adapter, device="cpu", max_rows=96))
        args.output.write_text(json.dumps(figures, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        if args.answers:
            args.answers.write_text("".join(json.dumps(k, ensure_ascii=False) + "\n" for k in kept), encoding="utf-8")
    if args.output == ASSETS / "figures.json":
        write_tables(json.loads(args.output.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
