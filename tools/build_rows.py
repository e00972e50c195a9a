"""facts.jsonl, unknown.jsonl and original.jsonl → train.jsonl and heldout.jsonl, the same every time.

Of every fact the phrasing `heldout` is kept out of training; of the unknown questions every ninth; and every
question of independent.jsonl.
A third of the rows, chosen by a hash of the question, carry the instruction.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent / "assets" / "hit_qa"
INSTRUCTION = "请回答下面的问题"


def read(name: str) -> list[dict]:
    return [json.loads(line) for line in (HERE / name).read_text(encoding="utf-8").splitlines()]


def write(name: str, rows: list[dict]) -> None:
    (HERE / name).write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf-8")


def number(text: str) -> int:
    """A number that belongs to the text, the same on every machine."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def row(question: str, answer: str) -> dict:
    return {"instruction": INSTRUCTION if number(question) % 3 == 0 else "", "input": question, "output": answer}


def build() -> tuple[list[dict], list[dict]]:
    """(training rows, held-out rows). A question asked twice keeps its first answer, the original's first of all."""
    train = read("original.jsonl")
    heldout = []
    for fact in read("facts.jsonl"):
        train += [row(q, fact["answer"]) for q in fact["questions"]]
        heldout.append({**row(fact["heldout"], fact["answer"]), "keywords": fact["keywords"], "kind": "fact"})
    for i, unknown in enumerate(read("unknown.jsonl")):
        made = row(unknown["question"], unknown["answer"])
        if i % 9 == 4:
            heldout.append({**made, "keywords": [], "kind": "unknown"})
        else:
            train.append(made)
    kept_out = {r["input"] for r in heldout + read("independent.jsonl")}
    once = {}
    for r in train:
        if r["input"] not in kept_out:
            once.setdefault(r["input"], r)
    return sorted(once.values(), key=lambda r: number(r["input"])), heldout


if __name__ == "__main__":
    train, heldout = build()
    write("train.jsonl", train)
    write("heldout.jsonl", heldout)
    print(f"{len(train):,} training rows, {len(heldout):,} held out")
