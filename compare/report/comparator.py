"""The pair's answers as a file that LLM Comparator opens: a view of many questions side by side.

Fields as PAIR-code/llm-comparator documents them (https://github.com/PAIR-code/llm-comparator): A is the adapted
model, B the base; a score above 0 says that A is better, of at most 1.5. Ours: 1.5 where only A is right, −1.5 where
only B is, else 0: no judge but the references.
"""

from __future__ import annotations

WINS = 1.5
PER_MODEL = {"right": "per_model_boolean", "ended": "per_model_boolean", "loops": "per_model_boolean",
             "tokens": "per_model_number", "chrf": "per_model_number"}


def example(question: dict) -> dict:
    base, adapted = question["answers"][:2]
    pair = (adapted, base)
    values = {"right": [a["right"] for a in pair], "ended": [a["ended"] for a in pair],
              "loops": [a["loop"] is not None for a in pair], "tokens": [a["tokens"] for a in pair],
              "chrf": [a["chrf"] for a in pair]}
    # The score is of right and wrong, which off-topic questions do not have.
    score = 0.0 if question["kind"] == "unknown" else WINS * (int(adapted["right"]) - int(base["right"]))
    return {"input_text": question["input"], "tags": [question["kind"] or "question"],
            "output_text_a": adapted["text"], "output_text_b": base["text"], "score": score,
            "individual_rater_scores": [],
            "custom_fields": {"instruction": question["instruction"], "reference": question["output"],
                              "keywords": " · ".join(question["keywords"]), **values}}


def comparator(report: dict) -> dict:
    """The file's content. A per-model number that an answer lacks (chrF without a reference) is left out for all."""
    examples = [example(q) for q in report["questions"]]
    kinds = {name: kind for name, kind in PER_MODEL.items()
             if all(None not in e["custom_fields"][name] for e in examples)}
    for name in set(PER_MODEL) - set(kinds):
        for one in examples:
            del one["custom_fields"][name]
    schema = [{"name": "instruction", "type": "string"}, {"name": "reference", "type": "text"},
              {"name": "keywords", "type": "string"}, *({"name": n, "type": kind} for n, kind in kinds.items())]
    adapted, base = report["variants"][1]["name"], report["variants"][0]["name"]
    return {"metadata": {"source_path": f"{report['data']['name']} · adapter sha256 {report['adapter']['sha256'][:12]}",
                         "custom_fields_schema": schema},
            "models": [{"name": adapted}, {"name": base}], "examples": examples}
