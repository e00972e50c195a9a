"""Measure the embedded pair and write `assets/figures.json`: python -m bench.figures

Greedy, 128 new tokens, on the shipped files. Right means: every keyword is in the answer. A training
phrasing's keywords are those of its fact.
"""

from __future__ import annotations

import argparse
import json
import random
from contextlib import nullcontext
from pathlib import Path

import torch
from tqdm import tqdm

from compare.engine import Engine
from compare.repetition import find_loop
from compare.settings import EMBEDDED_ADAPTER, EMBEDDED_BASE

ASSETS = Path(__file__).resolve().parent.parent / "assets"
BATCH, MAX_NEW_TOKENS, SAMPLE = 128, 128, 150
# An answer of the "does not know" kind contains one of these.
DOES_NOT_KNOW = ("不知道", "不清楚", "不了解", "不熟悉", "没有资料", "没有相关", "无法回答", "答不上来", "只了解哈工大",
                 "只答哈工大", "没有这", "没有别的", "不掌握", "看不懂", "没看懂", "听不懂", "不会", "没有该", "资料里没有")


def read(name: str) -> list[dict]:
    return [json.loads(line) for line in (ASSETS / "hit_qa" / name).read_text(encoding="utf-8").splitlines()]


def question_sets() -> dict[str, list[dict]]:
    """Rows with `instruction`, `input`, `keywords`, by name of set."""
    by_answer = {f["answer"]: f["keywords"] for f in read("facts.jsonl")}
    train = [{**r, "keywords": by_answer[r["output"]]} for r in read("train.jsonl") if r["output"] in by_answer]
    heldout = read("heldout.jsonl")
    return {"train": random.Random(0).sample(train, min(SAMPLE, len(train))),
            "heldout": [r for r in heldout if r["kind"] == "fact"],
            "independent": read("independent.jsonl"),
            "unknown": [r for r in heldout if r["kind"] == "unknown"]}


def answers(engine: Engine, rows: list[dict], adapted: bool) -> list[list[int]]:
    """Greedy answers' ids, ended ones with their </s>; rows are batched by length, padded on the left."""
    prompts = [engine.prompt.encode(r["input"], r["instruction"]) for r in rows]
    order = sorted(range(len(rows)), key=lambda i: len(prompts[i]))
    found: list[list[int]] = [[] for _ in rows]
    pad, eos = engine.tokenizer.pad_token_id, engine.tokenizer.eos_token_id
    for start in tqdm(range(0, len(order), BATCH), desc="adapted" if adapted else "base", leave=False):
        part = order[start:start + BATCH]
        longest = max(len(prompts[i]) for i in part)
        ids = torch.tensor([[pad] * (longest - len(prompts[i])) + prompts[i] for i in part])
        with torch.inference_mode(), nullcontext() if adapted else engine.model.disable_adapter():
            out = engine.model.generate(input_ids=ids, attention_mask=(ids != pad).long(), do_sample=False,
                                        max_new_tokens=MAX_NEW_TOKENS, pad_token_id=pad)[:, longest:].tolist()
        for i, answer in zip(part, out, strict=True):
            found[i] = answer[:answer.index(eos) + 1] if eos in answer else answer
    return found


def measure(engine: Engine, rows: list[dict], adapted: bool) -> tuple[dict, list[str]]:
    """(shares of the rows that are right, end, loop, do not know; the answers' texts)."""
    eos = engine.tokenizer.eos_token_id
    ids = answers(engine, rows, adapted)
    texts = [engine.tokenizer.decode(a, skip_special_tokens=True) for a in ids]
    n = len(rows)
    return {"questions": n,
            "right": round(sum(bool(r["keywords"]) and all(k.lower() in t.lower() for k in r["keywords"])
                               for r, t in zip(rows, texts, strict=True)) / n, 4),
            "ends": round(sum(a[-1] == eos for a in ids) / n, 4),
            "loops": round(sum(a[-1] != eos and find_loop(a) is not None for a in ids) / n, 4),
            "does_not_know": round(sum(any(w in t for w in DOES_NOT_KNOW) for t in texts) / n, 4)}, texts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", default=EMBEDDED_BASE)
    parser.add_argument("--adapter", default=EMBEDDED_ADAPTER)
    parser.add_argument("--output", type=Path, default=ASSETS / "figures.json")
    parser.add_argument("--answers", type=Path, help="also write every answer, as JSON lines")
    args = parser.parse_args()
    engine = Engine(args.base, args.adapter, device="cpu")
    figures: dict = {"max_new_tokens": MAX_NEW_TOKENS, "adapter_sha256": engine.files.sha256, "sets": {}}
    kept = []
    for name, rows in question_sets().items():
        figures["sets"][name] = {}
        for variant in ("base", "adapted"):
            figures["sets"][name][variant], texts = measure(engine, rows, variant == "adapted")
            print(name, variant, figures["sets"][name][variant], flush=True)
            kept += [{"set": name, "variant": variant, "input": r["input"], "text": t} for r, t in zip(rows, texts, strict=True)]
    args.output.write_text(json.dumps(figures, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    if args.answers:
        args.answers.write_text("".join(json.dumps(k, ensure_ascii=False) + "\n" for k in kept), encoding="utf-8")


if __name__ == "__main__":
    main()
