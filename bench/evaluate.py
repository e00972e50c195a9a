"""Held-out questions, base and adapted: the evaluation's batch against generate() toggled, one question after
another. Both in this process, on the same prompts, greedy.

    python -m bench.evaluate                      # 100 questions, 128 tokens each
    python -m bench.evaluate --questions 4        # does it run?

Prints one JSON object: seconds of each, how many times as fast, and how many answers are the same tokens.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time

import torch
from tqdm import tqdm

from bench.shared.by_transformers import toggled
from bench.shared.hit_qa import held_out
from compare.engine.answers import answer_all
from compare.engine.interface import Sampling
from compare.engine.local import LocalEngine
from compare.questions import Question
from lens.embedded import EMBEDDED_ADAPTER, EMBEDDED_BASE


def load(engine: LocalEngine, base: str, adapter: str):
    """The same pair in transformers and PEFT alone."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    plain = AutoModelForCausalLM.from_pretrained(base, dtype=engine.facts.dtype).to(engine.facts.device)
    return PeftModel.from_pretrained(plain, adapter, torch_device=engine.facts.device).eval()


def one_by_one(model, engine: LocalEngine, questions: list[Question], max_new_tokens: int) -> list[list[int]]:
    """Two answers a question, base and adapted, as a notebook does it. The engine only encodes."""
    eos, answers = engine.tokens.end_id, []
    for question in tqdm(questions, desc="toggled generate()", file=sys.stderr):
        answers += toggled(model, engine.tokens.prompt_ids(question.text, question.instruction), max_new_tokens)
    return [ids[:ids.index(eos)] if eos in ids else ids for ids in answers]


def batched(engine: LocalEngine, questions: list[Question], max_new_tokens: int) -> list[list[int]]:
    """The same answers as `python -m compare.evaluate` gets them."""
    found: list[list[list[int]]] = [[] for _ in questions]
    stream = answer_all(engine, questions, engine.variants([1.0]), Sampling(max_new_tokens))
    for index, columns in tqdm(stream, total=len(questions), desc="one batch", file=sys.stderr):
        found[index] = [column.token_ids for column in columns]
    return [ids for pair in found for ids in pair]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--questions", type=int, default=100)
    parser.add_argument("--max-new-tokens", type=int, default=128)
    parser.add_argument("--base", default=EMBEDDED_BASE)
    parser.add_argument("--adapter", default=EMBEDDED_ADAPTER)
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    questions = held_out(args.questions)
    engine = LocalEngine(args.base, args.adapter, args.device)
    model = load(engine, args.base, args.adapter)
    batched(engine, questions[:1], 2)
    one_by_one(model, engine, questions[:1], 2)  # neither pays for what is done once
    began = time.perf_counter()
    ours = batched(engine, questions, args.max_new_tokens)
    between = time.perf_counter()
    theirs = one_by_one(model, engine, questions, args.max_new_tokens)
    ended = time.perf_counter()
    print(json.dumps({"questions": len(questions), "max_new_tokens": args.max_new_tokens, "device": engine.facts.device,
                      "dtype": engine.facts.dtype, "threads": torch.get_num_threads(),
                      "load": round(os.getloadavg()[0], 1), "tokens": sum(map(len, ours)),
                      "batched_seconds": round(between - began, 2), "toggled_seconds": round(ended - between, 2),
                      "times_as_fast": round((ended - between) / (between - began), 2),
                      "same_answers": f"{sum(a == b for a, b in zip(ours, theirs, strict=True))} of {len(ours)}"}))


if __name__ == "__main__":
    main()
