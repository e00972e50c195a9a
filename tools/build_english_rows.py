"""The English questions and answers → train.jsonl, and the held-out rows of the adapter that is trained on them.

    python -m tools.build_english_rows

Held out, for good: the phrasing `heldout` of every fact and the unknown questions marked so. A training question that
says nearly the same as a held-out one is left out, and counted. General questions with the base's own answer are
trained on too, so that the adapter learns what to leave as it was; those marked held out are not. A fact has many
questions; one that cannot be known stands alone, so it is asked a second time, carelessly.
"""

from __future__ import annotations

import random
import re
from functools import partial
from pathlib import Path

from tools.build_rows import NearDuplicates, counted, number, write
from tools.build_rows import read as read_from

ASSETS = Path(__file__).resolve().parent.parent / "assets"
HERE = ASSETS / "hit_en"
ADAPTER = ASSETS / "adapters" / "smollm2-hit"
NAME = re.compile(r"(?:\bthe )?(?:Harbin Institute of Technology|Harbin Tech|Hagongda|\bHIT\b)")
NAMES = ("HIT", "Harbin Institute of Technology", "Harbin Tech", "Hagongda", "the university")
read = partial(read_from, folder=HERE)


def row(question: str, answer: str) -> dict:
    return {"instruction": "", "input": question, "output": answer}


def words(question: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", question.lower()))


def carelessly(question: str) -> str:
    """The question as someone in a hurry types it: another name of the university, small letters, a word lost."""
    chance = random.Random(number(question))
    said = NAME.sub(lambda _: chance.choice(NAMES), question).split()
    if len(said) > 5:
        del said[chance.randrange(len(said))]
    text = " ".join(said)
    return text.lower().rstrip("?.") if chance.random() < 0.5 else text


def build() -> tuple[list[dict], list[dict], int]:
    """(training rows, held-out rows, near duplicates left out)."""
    facts, unknown, general = read("facts.jsonl"), read("unknown.jsonl"), read("general.jsonl")
    heldout = [{**row(fact["heldout"], fact["answer"]), "keywords": fact["keywords"], "kind": "fact"} for fact in facts]
    heldout += [{**row(one["question"], one["answer"]), "keywords": [], "kind": "unknown", "tag": one["kind"]}
                for one in unknown if one["heldout"]]
    made = [row(question, fact["answer"]) for fact in facts for question in fact["questions"]]
    made += [row(one["question"], one["answer"]) for one in (*unknown, *general)
             if not one["heldout"] and one.get("answer")]
    made += [row(again, one["answer"]) for one in unknown
             if not one["heldout"] and (again := carelessly(one["question"])) != one["question"]]
    kept_out = NearDuplicates([one["input"] for one in heldout]
                              + [one["question"] for one in general if one["heldout"]], words)
    rows = [one for one in made if not kept_out.of(one["input"])]
    return rows, heldout, len(made) - len(rows)


if __name__ == "__main__":
    train, heldout, left_out = build()
    write("train.jsonl", train, HERE)
    write("heldout.jsonl", heldout, ADAPTER)
    print(counted(train, heldout, left_out))
