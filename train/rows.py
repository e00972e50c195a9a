"""Rows of instruction / input / output → checked rows → `input_ids` and `labels`.

The prompt and the answer are encoded apart and joined as ids, so the prompt ids of training are
the ids a comparison sends. Knows nothing of models.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from train.config import BadInput

FIELDS = ("instruction", "input", "output")
IGNORED = -100  # the label value that cross-entropy skips
LONGEST_LINE = 1_000_000  # characters


@dataclass(frozen=True)
class Row:
    """One checked row and where it stood."""

    instruction: str
    input: str
    output: str
    where: str


def row_problem(value: object, special: Iterable[str]) -> str | None:
    """What is wrong with a parsed row, or None. `special` are the tokenizer's special tokens."""
    if not isinstance(value, dict):
        return f"found {type(value).__name__}, expected an object with instruction, input, output"
    for field in ("input", "output"):
        if field not in value:
            return f"field {field!r} is missing"
    for field in FIELDS:
        text = value.get(field) or ""
        if not isinstance(text, str):
            return f"field {field!r} is {type(text).__name__}, expected text"
        for token in special:
            if token in text:
                return f"field {field!r} contains the special token {token!r}; take it out"
    if not (value.get("input") or "").strip() and not (value.get("instruction") or "").strip():
        return "instruction and input are both empty, expected a question"
    if not (value["output"] or "").strip():
        return "field 'output' is empty, expected an answer"
    return None


def parse(path: Path) -> Iterable[tuple[str, object]]:
    """(where, parsed value) for each row of a .json or .jsonl file; raises BadInput."""
    if not path.is_file():
        kind = "is a directory" if path.is_dir() else "does not exist"
        raise BadInput(f"data file {path} {kind}; give a .jsonl or .json file of rows")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as err:
        raise BadInput(f"data file {path} is not UTF-8 text (byte {err.start}); save it as UTF-8") from err
    if path.suffix == ".json":
        try:
            whole = json.loads(text)
        except (json.JSONDecodeError, RecursionError) as err:
            raise BadInput(f"data file {path} is not JSON: {err}") from err
        if not isinstance(whole, list):
            raise BadInput(f"data file {path} holds {type(whole).__name__}, expected a list of rows")
        yield from ((f"{path} row {n}", value) for n, value in enumerate(whole, 1))
        return
    for number, line in enumerate(text.split("\n"), 1):
        where = f"{path} line {number}"
        if not line.strip():
            continue
        if len(line) > LONGEST_LINE:
            raise BadInput(f"{where}: {len(line):,} characters, at most {LONGEST_LINE:,} are allowed")
        try:
            yield where, json.loads(line)
        except (json.JSONDecodeError, RecursionError) as err:
            raise BadInput(f"{where} is not JSON ({err}); expected one object a line") from err


def read_rows(paths: Iterable[Path], special: Iterable[str] = ()) -> list[Row]:
    """All rows of the files, checked. Raises BadInput naming file, line, what was found."""
    special, rows = list(special), []
    for path in map(Path, paths):
        for where, value in parse(path):
            if problem := row_problem(value, special):
                raise BadInput(f"{where}: {problem}")
            fields = {name: value.get(name) or "" for name in FIELDS}  # type: ignore[attr-defined]
            rows.append(Row(**fields, where=where))
    if not rows:
        raise BadInput(f"no rows in {', '.join(map(str, paths))}; expected at least one")
    return rows


def messages(row: Row) -> list[dict[str, str]]:
    """A row's prompt as chat messages; the empty instruction keeps its turn."""
    return [{"role": "system", "content": row.instruction}, {"role": "user", "content": row.input}]


def encode_row(row: Row, tokenizer, max_length: int, ending: str = "</s>",
               whole_text: bool = False) -> dict[str, list[int]]:
    """`input_ids` and `labels` of one row, at most `max_length` tokens.

    Labels cover the answer and its ending alone, or everything when `whole_text` (recipe `seed`).
    A row that is cut loses its ending first, so a cut answer is never taught as a finished one.
    """
    prompt = tokenizer.apply_chat_template(messages(row), add_generation_prompt=True, tokenize=True)["input_ids"]
    answer = tokenizer.encode(row.output, add_special_tokens=False)
    end = tokenizer.encode(ending, add_special_tokens=False)
    ids = (prompt + answer + end)[:max_length]
    labels = list(ids) if whole_text else [IGNORED] * len(prompt) + ids[len(prompt):]
    return {"input_ids": ids, "labels": labels[:max_length]}
