"""python -m train.check: what a run would learn from these rows, as one JSON object, without learning it.

    {"rows": 4, "skipped": 0, "refusals": 0, "duplicates": 2, "cut": 0, "max_length": 256,
     "lengths": {"38": 2, "61": 2},                             # tokens a row, before any is cut → rows
     "notes": [{"code", "message", "message_zh"}],              # what is told of them before they are used
     "read": str, "learnt": str,                                # the first row, as it is taught
     "examples": [{"instruction": str, "input": str, "output": str}]}

or, with exit status 2, why nothing can be learnt from them, and the step that helps where one was tried:

    {"error": {"code", "message", "message_zh", "next": {"code", "message", "message_zh"} | null}}

`--settings` alone prints what a run can be told, `{"settings": [{"name", "default", "help", …}], "recipes": {…}}`.

The rows are read, checked and encoded by what trains on them, so what passes here passes there. Takes the options of
`python -m train`. For whoever shows a file before it is trained on; `train.data.preview` shows the same in a terminal.
"""

from __future__ import annotations

import dataclasses
import sys
from collections import Counter

from lens.cli import command, print_json
from lens.declared_settings import declared
from lens.errors import LensError, Sentence
from train.settings import RECIPES, TrainSettings, read_settings

EXAMPLES = 5  # rows shown, evenly spaced
LONGEST = 2000  # characters shown of one text


def look(s: TrainSettings) -> dict:
    """The object above. Raises LensError."""
    from lens.base.loading import load_tokenizer, template_notes
    from train.data.dataset import load_dataset
    from train.data.forecast import Plan, forecast
    from train.data.preview import first_learnt
    from train.setup import ending_of

    tokenizer = load_tokenizer(s.base, s.chat_template)
    s = dataclasses.replace(s, ending=ending_of(s, tokenizer))
    data = load_dataset(s, tokenizer)
    rows, lengths = data.rows, data.encoded.lengths
    first, at = data.encoded[0]["input_ids"], first_learnt(data.encoded[0]["labels"])
    count = min(EXAMPLES, len(rows))
    shown = [rows[i * len(rows) // count] for i in range(count)]
    notes = [*template_notes(s.base, tokenizer), *rows.notes(), *forecast(s, data, Plan.of(s, len(rows), 1))]
    return {"rows": len(rows), "skipped": len(rows.skipped), "notes": [note.as_dict() for note in notes],
            "refusals": rows.refusals, "duplicates": rows.duplicates,
            "cut": data.encoded.cut(s.max_length), "max_length": s.max_length,
            "lengths": dict(sorted(Counter(lengths).items())),
            "read": tokenizer.decode(first[:at])[:LONGEST], "learnt": tokenizer.decode(first[at:])[:LONGEST],
            "examples": [{name: getattr(row, name)[:LONGEST] for name in ("instruction", "input", "output")}
                         for row in shown]}


def refusal(err: LensError) -> dict:
    """An error for programs: its sentence without the next step, and that step apart."""
    then = err.values.get("next")
    bare = err.with_next("") if then else err
    return {**bare.as_dict(), "next": then.as_dict() if isinstance(then, Sentence) else None}


@command
def main(argv: list[str] | None = None) -> int:
    if (sys.argv[1:] if argv is None else argv) == ["--settings"]:
        print_json({"settings": declared(TrainSettings), "recipes": RECIPES})
        return 0
    try:
        print_json(look(read_settings("python -m train.check", "What a run would learn from these rows, as JSON.",
                                      argv)))
    except LensError as err:
        print_json({"error": refusal(err)})
        raise
    return 0


if __name__ == "__main__":
    sys.exit(main())
