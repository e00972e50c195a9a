"""facts.jsonl, slots.jsonl, unknown.jsonl and original.jsonl → train.jsonl and heldout.jsonl, the same every time.

Held out, for good: the phrasing `heldout` of every fact and of every slot, the unknown questions marked so, and all of
independent.jsonl. A training question that says nearly the same as a held-out one is left out, and counted. A third of
the rows, chosen by a hash of the question, carry the instruction.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent / "assets" / "hit_qa"
INSTRUCTION = "请回答下面的问题"
UNIVERSITY = re.compile(r"哈尔滨工业大学|哈工大|咱们学校|我们学校|我校|工大|hit", re.IGNORECASE)
FILLERS = re.compile(r"请问一?下?|我?想知道|麻烦问?一?下?|你知道|告诉我|呢|啊|吗|吧|呀")
GRAM = 2  # characters
ALIKE = 0.85  # Jaccard similarity of two questions' parts from which they count as the same
SAMPLE = 400  # held-out questions of the example report


def read(name: str, folder: Path = HERE) -> list[dict]:
    return [json.loads(line) for line in (folder / name).read_text(encoding="utf-8").splitlines()]


def write(name: str, rows: list[dict], folder: Path = HERE) -> None:
    (folder / name).write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf-8")


def number(text: str) -> int:
    """A number that belongs to the text, the same on every machine."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def row(question: str, answer: str) -> dict:
    return {"instruction": INSTRUCTION if number(question) % 3 == 0 else "", "input": question, "output": answer}


def both_ways(one: dict) -> list[dict]:
    """The row with the instruction and without: a fact has many questions, one that cannot be known stands alone."""
    return [{**one, "instruction": instruction} for instruction in ("", INSTRUCTION)]


def grams(question: str) -> frozenset[str]:
    """The question's character n-grams, without the university's names, polite words, punctuation and case."""
    text = re.sub(r"\W", "", FILLERS.sub("", UNIVERSITY.sub("", question))).lower()
    return frozenset(text[i:i + GRAM] for i in range(max(1, len(text) - GRAM + 1)))


class NearDuplicates:
    """Held-out questions by their parts, n-grams or words: which of them says nearly the same as a given one?"""

    def __init__(self, questions: Iterable[str], parts: Callable[[str], frozenset[str]] = grams):
        self.parts = parts
        self.known = [(question, parts(question)) for question in questions]
        self.having = defaultdict(set)
        for at, (_, some) in enumerate(self.known):
            for gram in some:
                self.having[gram].add(at)

    def of(self, question: str) -> str | None:
        """The first held-out question whose parts are the same to ALIKE; None where there is none."""
        mine = self.parts(question)
        for at in sorted(set().union(*(self.having[gram] for gram in mine if gram in self.having))):
            theirs = self.known[at][1]
            if len(mine & theirs) >= ALIKE * len(mine | theirs):
                return self.known[at][0]
        return None


def held_out() -> list[dict]:
    """Rows that are never trained on, with `keywords`, `kind` ("fact", "unknown") and a `tag` to slice by."""
    rows = [{**row(fact["heldout"], fact["answer"]), "keywords": fact["keywords"], "kind": "fact",
             "tag": "fact"}
            for fact in read("facts.jsonl")]
    rows += [{**row(slot["heldout"], slot["answer"]), "keywords": slot["keywords"], "kind": "fact",
              "tag": "slot"}
             for slot in read("slots.jsonl")]
    rows += [{**row(one["question"], one["answer"]), "keywords": [], "kind": "unknown", "tag": one["kind"]}
             for one in read("unknown.jsonl") if one.get("heldout")]
    return rows


def build() -> tuple[list[dict], list[dict], int]:
    """(training rows, held-out rows, near duplicates left out). A question asked twice keeps its first answer, the
    original's first of all."""
    heldout = held_out()
    kept_out = NearDuplicates([r["input"] for r in heldout] + [r["input"] for r in read("independent.jsonl")]
                             + [r["input"] for r in read("independent_unknown.jsonl")])
    original = read("original.jsonl")
    made = [row(q, said["answer"]) for name in ("facts.jsonl", "slots.jsonl") for said in read(name)
            for q in said["questions"]]
    unknown = {one["question"] for one in read("unknown.jsonl") if not one.get("heldout")}
    made += [row(one["question"], one["answer"]) for one in read("unknown.jsonl") if one["question"] in unknown]
    once = {r["input"]: r for r in original if not kept_out.of(r["input"])}
    unknown -= once.keys() | {r["input"] for r in made[:-len(unknown)]}
    left_out = 0
    for r in made:
        if r["input"] in once:
            continue
        if kept_out.of(r["input"]):
            left_out += 1
        else:
            once[r["input"]] = r
    rows = [r for one in once.values() for r in (both_ways(one) if one["input"] in unknown else [one])]
    return sorted(rows, key=lambda r: (number(r["input"]), r["instruction"])), heldout, left_out


def counted(train: list[dict], heldout: list[dict], left_out: int) -> str:
    return f"{len(train):,} training rows, {len(heldout):,} held out, {left_out:,} too near to a held-out one left out"


if __name__ == "__main__":
    train, heldout, left_out = build()
    write("train.jsonl", train)
    write("heldout.jsonl", heldout)
    write("heldout_sample.jsonl", random.Random(1).sample(heldout, SAMPLE))
    print(counted(train, heldout, left_out))
