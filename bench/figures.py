"""Measure a pair of ours, write its figures and the tables made from them.

    python -m bench.figures                        # the embedded pair: assets/figures.json
    python -m bench.figures --pair smollm2         # SmolLM2 with our adapter: its figures.json
    python -m bench.figures --pair gemma3          # Gemma 3 with one trained on the Chinese rows, in runs/gemma3-hit

Greedy, 128 new tokens, on the shipped files. Right means: every keyword is in the answer. A training
phrasing's keywords are those of its fact. The tables, and answers drawn by a seed, are put between the marks
`<!-- figures -->` and `<!-- answers -->` of the pair's documents; `--tables` makes them anew. What an adapter forgot of
general questions is told by how often it says word for word what its base says.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from compare.engine.answers import Column, answer_all
from compare.engine.interface import Sampling
from compare.engine.local import LocalEngine
from compare.questions import Question
from compare.report.measures import judge
from compare.report.rows import Row
from lens.embedded import ASSETS, EMBEDDED_ADAPTER, EMBEDDED_BASE
from tools.build_english_rows import ADAPTER as SMOLLM2_ADAPTER
from tools.build_english_rows import read as read_english
from tools.build_english_rows import row
from tools.build_rows import read

MAX_NEW_TOKENS, SAMPLE = 128, 300
FEWER = {"heldout": 120, "independent": 120, "unknown_hit": 60, "independent_unknown": 60}  # where a model is slow
DRAWN, SEED = 30, 0  # answers of each side that a reader is shown, and what they are drawn by
ABOUT_HIT = ("hit", "hit-false")  # tags of questions about the university that no fact answers
ROOT = ASSETS.parent
SETS = {"train": "training phrasings", "heldout": "held-out phrasings", "independent": "questions written apart",
        "unknown": "held-out questions it cannot know",
        "unknown_hit": "held-out ones about the university it cannot know",
        "independent_unknown": "questions it cannot know, written apart", "general": "general questions"}
Sets = dict[str, list[dict]]


def question_sets() -> Sets:
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


def english_sets() -> Sets:
    """The same of assets/hit_en."""
    heldout, facts = read("heldout.jsonl", SMOLLM2_ADAPTER), read_english("facts.jsonl")
    train = [{**row(question, fact["answer"]), "keywords": fact["keywords"]}
             for fact in facts for question in fact["questions"]]
    general = [{**row(one["question"], ""), "keywords": []} for one in read_english("general.jsonl") if one["heldout"]]
    return {"train": random.Random(SEED).sample(train, min(SAMPLE, len(train))),
            "heldout": [r for r in heldout if r["kind"] == "fact"],
            "unknown": [r for r in heldout if r["kind"] == "unknown"], "general": general}


def fewer_questions() -> Sets:
    """Of `question_sets` as many as a larger model answers in minutes."""
    sets = question_sets()
    return {name: random.Random(SEED).sample(sets[name], most) for name, most in FEWER.items()}


@dataclass(frozen=True)
class Pair:
    """What is measured: `drawn_from` is the set whose answers a reader is shown; `mark`: what the marks in its
    documents begin with."""

    base: str
    adapter: str
    sets: Callable[[], Sets]
    drawn_from: str
    output: Path
    documents: tuple[Path, ...]
    mark: str = ""


PAIRS = {
    "embedded": Pair(EMBEDDED_BASE, EMBEDDED_ADAPTER, question_sets, "independent", ASSETS / "figures.json",
                     (ASSETS / "README.md", ROOT / "README.md")),
    "smollm2": Pair(str(ROOT / "models" / "smollm2"), str(SMOLLM2_ADAPTER), english_sets, "heldout",
                    SMOLLM2_ADAPTER / "figures.json", (ROOT / "docs" / "real-weights.md",)),
    "gemma3": Pair(str(ROOT / "models" / "gemma3"), str(ROOT / "runs" / "gemma3-hit"), fewer_questions, "independent",
                   ROOT / "docs" / "gemma3-hit" / "figures.json", (ROOT / "docs" / "real-weights.md",), "gemma3 "),
}


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
    for name, sides in figures["sets"].items():
        for side, found in sides.items():
            right = "n/a" if "unknown" in name or name == "general" else percent(found["right"])
            shares = (percent(found[share]) for share in ("does_not_know", "ends", "loops"))
            lines.append(f"| {side}, {found['questions']:,} {SETS[name]} | {right} | {' | '.join(shares)} |")
    if "general" in figures["sets"]:
        same = figures["sets"]["general"]["adapted"]["as_base"]
        lines += ["", f"Word for word the base's answer to a general question: {percent(same)}."]
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


def write_tables(figures: dict, pair: Pair) -> None:
    for path in pair.documents:
        fill(path, f"{pair.mark}figures", table(figures))
        fill(path, f"{pair.mark}answers", drawn(figures))


def measure_all(engine: LocalEngine, pair: Pair) -> tuple[dict, list[dict]]:
    """The figures of every set, and every answer."""
    figures: dict = {"max_new_tokens": MAX_NEW_TOKENS, "dtype": engine.facts.dtype, "sets": {}, "drawn": [],
                     "drawn_by_seed": SEED, "adapter_sha256": next(iter(engine.adapters.values())).sha256}
    kept: list[dict] = []
    for name, rows in pair.sets().items():
        columns = answer(engine, rows)
        figures["sets"][name] = {side: measure(rows, some) for side, some in columns.items()}
        if name == "general":
            same = sum(base.text == adapted.text for base, adapted in zip(*columns.values(), strict=True))
            figures["sets"][name]["adapted"]["as_base"] = round(same / len(rows), 4)
        print(name, json.dumps(figures["sets"][name]), flush=True)
        kept += [{"set": name, "question": r["input"], "keywords": r["keywords"], "base": base.text,
                  "adapted": adapted.text} for r, base, adapted in zip(rows, *columns.values(), strict=True)]
    known = [k for k in kept if k["set"] == pair.drawn_from]
    figures["drawn"] = [{key: one[key] for key in ("question", "base", "adapted")}
                        for one in random.Random(SEED).sample(known, DRAWN)]
    return figures, kept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pair", choices=list(PAIRS), default="embedded", help="which questions, and its files")
    parser.add_argument("--base", help="another base than the pair's")
    parser.add_argument("--adapter", help="another adapter than the pair's")
    parser.add_argument("--dtype", default="auto", help="such as bfloat16 (default: auto, float32 here)")
    parser.add_argument("--output", type=Path, help="where the figures go; the pair's own place makes the tables too")
    parser.add_argument("--answers", type=Path, help="also write every answer, as JSON lines")
    parser.add_argument("--tables", action="store_true", help="measure nothing, make the tables of --output anew")
    args = parser.parse_args()
    pair = PAIRS[args.pair]
    output = args.output or pair.output
    if not args.tables:
        engine = LocalEngine(args.base or pair.base, args.adapter or pair.adapter, device="cpu", dtype=args.dtype,
                             max_rows=96)
        figures, kept = measure_all(engine, pair)
        output.write_text(json.dumps(figures, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        if args.answers:
            args.answers.write_text("".join(json.dumps(k, ensure_ascii=False) + "\n" for k in kept), encoding="utf-8")
    if output == pair.output:
        write_tables(json.loads(output.read_text(encoding="utf-8")), pair)


if __name__ == "__main__":
    main()
