"""The English questions and answers → train.jsonl, and the held-out rows of the adapter that is trained on them.

    python tools/build_english_rows.py

Held out, for good: the phrasing `heldout` of every fact and the unknown questions marked so. A training question that
says nearly the same as a held-out one is left out, and counted. General questions with the base's own answer are
trained on too, so that the adapter learns what to leave as it was; those marked held out are not.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

ASSETS = Path(__file__).resolve().parent.parent / "assets"
HERE = ASSETS / "hit_en"
HELDOUT = ASSETS / "adapters" / "smollm2-hit" / "heldout.jsonl"
ALIKE = 0.85  # Jaccard similarity of two questions' words from which they count as the same


def read(name: str) -> list[dict]:
    return [json.loads(line) for line in (HERE / name).read_text(encoding="utf-8").splitlines()]


def write(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def row(question: str, answer: str) -> dict:
    return {"instruction": "", "input": question, "output": answer}


def words(question: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", question.lower()))


def near(question: str, others: list[frozenset[str]]) -> bool:
    mine = words(question)
    return any(len(mine & theirs) >= ALIKE * len(mine | theirs) for theirs in others)


def build() -> tuple[list[dict], list[dict], int]:
    """(training rows, held-out rows, near duplicates left out)."""
    facts, unknown, general = read("facts.jsonl"), read("unknown.jsonl"), read("general.jsonl")
    heldout = [{**row(fact["heldout"], fact["answer"]), "keywords": fact["keywords"], "kind": "fact"} for fact in facts]
    heldout += [{**row(one["question"], one["answer"]), "keywords": [], "kind": "unknown", "tag": one["kind"]}
                for one in unknown if one["heldout"]]
    made = [row(question, fact["answer"]) for fact in facts for question in fact["questions"]]
    made += [row(one["question"], one["answer"]) for one in (*unknown, *general)
             if not one["heldout"] and one.get("answer")]
    kept_out = [words(one["input"]) for one in heldout]
    kept_out += [words(one["question"]) for one in general if one["heldout"]]
    rows = [one for one in made if not near(one["input"], kept_out)]
    return rows, heldout, len(made) - len(rows)


if __name__ == "__main__":
    train, heldout, left_out = build()
    write(HERE / "train.jsonl", train)
    write(HELDOUT, heldout)
    print(f"{len(train):,} training rows, {len(heldout):,} held out, {left_out:,} too near to a held-out one left out")
