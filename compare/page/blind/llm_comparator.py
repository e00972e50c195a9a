"""Blind votes as a file that LLM Comparator opens, in the form of the report's (`compare.report.report_files`).

A is the adapted model, B the base; the score is the vote's: 1.5 where A was better, −1.5 where B was, 0 for ties, whose
tags say whether both were good or neither.
"""

from __future__ import annotations

from collections.abc import Iterable

from compare.server.votes import Vote
from lens.strict_json import dumps

SCORES = {"better": 1.5, "worse": -1.5, "both": 0.0, "neither": 0.0}
TAGS = {"better": "adapted better", "worse": "base better", "both": "tie: both good", "neither": "tie: both bad"}


def as_llm_comparator(votes: Iterable[Vote]) -> str:
    """The file's content. Where votes are of several adapters or bases, each has its own as a tag."""
    kept = list(votes)
    adapters, bases = ({getattr(vote, name) for vote in kept} for name in ("adapter", "base"))
    models = [next(iter(names)) if len(names) == 1 else several for names, several in
              ((adapters, "adapted"), (bases, "base"))]
    return dumps({"metadata": {"source_path": "blind votes", "custom_fields_schema": [
                      {"name": name, "type": "string"} for name in ("instruction", "at", "adapter_sha256")]},
                  "models": [{"name": name} for name in models],
                  "examples": [example(vote, [*([vote.adapter] if len(adapters) > 1 else []),
                                              *([vote.base] if len(bases) > 1 else [])]) for vote in kept]}, indent=1)


def example(vote: Vote, more: list[str]) -> dict:
    return {"input_text": vote.question, "tags": [TAGS[vote.verdict], *more], "output_text_a": vote.adapted_text,
            "output_text_b": vote.base_text, "score": SCORES[vote.verdict], "individual_rater_scores": [],
            "custom_fields": {"instruction": vote.instruction, "at": vote.at, "adapter_sha256": vote.adapter_sha256}}
