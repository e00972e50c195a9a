"""A report's files in one directory, llm_comparator.json among them.

That file opens in LLM Comparator, a view of many questions side by side; its fields are as PAIR-code/llm-comparator
documents them (https://github.com/PAIR-code/llm-comparator): A is the adapted model, B the base; a score above 0 says
that A is better, of at most 1.5. Ours: 1.5 where only A is right, −1.5 where only B is, else 0: no judge but the
references.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from compare.report.pages import html, markdown
from compare.report.pictures import pictures
from lens.errors import BadSetting
from lens.strict_json import dumps

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
    return {"input_text": question["input"], "tags": [question["kind"] or "question", *question.get("slices", [])],
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


def make_directory(path: Path) -> Path:
    """Raises BadSetting where it cannot be made."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise BadSetting("report-output-unusable", path=path, reason=err.strerror or err) from err
    return path


def write(report: dict, directory: Path) -> list[Path]:
    """Write report.json, report.md, report.html, llm_comparator.json and the pictures; each in one move."""
    texts = {"report.json": dumps(report, indent=1) + "\n", "report.md": markdown(report), "report.html": html(report),
             "llm_comparator.json": dumps(comparator(report), indent=1)}
    files = {**{name: text.encode("utf-8", "replace") for name, text in texts.items()},
             **{f"{name}.png": png for name, png in pictures(report).items()}}
    return write_files(directory, files)


def write_files(directory: Path, files: Mapping[str, bytes]) -> list[Path]:
    """Each in one move, so that none is ever there in part."""
    for name, content in files.items():
        part = directory / f"{name}.part"
        part.write_bytes(content)
        part.replace(directory / name)
    return [directory / name for name in files]
