"""python -m train.check: what a run would learn from these rows, as one JSON object, without learning it.

    {"rows": 4, "skipped": 0, "first_skipped": "", "refusals": 0, "duplicates": 2, "cut": 0, "max_length": 256,
     "lengths": {"38": 2, "61": 2},                             # tokens a row, before any is cut → rows
     "read": str, "learnt": str,                                # the first row, as it is taught
     "examples": [{"instruction": str, "input": str, "output": str}]}

The rows are read, checked and encoded by what trains on them, so what passes here passes there. Takes the options of
`python -m train`. For whoever shows a file before it is trained on; `train.data.preview` shows the same in a terminal.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter

from lens.cli import Parser
from lens.errors import BadInput
from lens.settings import add_settings, make_settings
from lens.threads import wait_passively
from train.settings import RECIPES, TrainSettings

EXAMPLES = 5  # rows shown, evenly spaced
LONGEST = 2000  # characters shown of one text


def look(s: TrainSettings) -> dict:
    """The object above. Raises BadInput."""
    from train.base import load_tokenizer
    from train.data.dataset import load_dataset

    tokenizer = load_tokenizer(s.base)
    data = load_dataset(s, tokenizer)
    rows, lengths = data.rows, data.encoded.lengths
    first, at = data.encoded[0]["input_ids"], data.encoded.learnt_from[0]
    count = min(EXAMPLES, len(rows))
    shown = [rows[i * len(rows) // count] for i in range(count)]
    return {"rows": len(rows), "skipped": len(rows.skipped), "first_skipped": (rows.skipped or [""])[0],
            "refusals": rows.refusals, "duplicates": rows.duplicates,
            "cut": sum(length > s.max_length for length in lengths), "max_length": s.max_length,
            "lengths": dict(sorted(Counter(lengths).items())),
            "read": tokenizer.decode(first[:at])[:LONGEST], "learnt": tokenizer.decode(first[at:])[:LONGEST],
            "examples": [{name: getattr(row, name)[:LONGEST] for name in ("instruction", "input", "output")}
                         for row in shown]}


def main(argv: list[str] | None = None) -> int:
    wait_passively()
    parser = Parser(prog="python -m train.check", description="What a run would learn from these rows, as JSON.")
    add_settings(parser, TrainSettings)
    given = vars(parser.parse_args(argv))
    if os.path.isdir(given.get("base", TrainSettings().base)):
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        settings = make_settings(TrainSettings, {**RECIPES[given.get("recipe", "lens")], **given})
        print(json.dumps(look(settings), ensure_ascii=False))
    except BadInput as err:
        print(f"error: {err}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
