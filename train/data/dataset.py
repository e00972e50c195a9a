"""The rows of a run: read, split into taught and held out, encoded."""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import islice

from lens.errors import BadInput
from lens.rows.rows import Row, Rows, read_rows
from train.data.encoded import EncodedRows
from train.data.encoding import encode_rows
from train.data.preview import check_encoded
from train.settings import TrainSettings

CHECKED = 1000  # rows whose labels are checked before the first step


@dataclass(frozen=True)
class Dataset:
    """Rows with their `input_ids` and `labels`; `eval_rows` are never taught. `rows.skipped`: bad rows left out."""

    rows: Rows
    encoded: EncodedRows
    eval_rows: Rows
    eval_encoded: EncodedRows


def split(found: Rows, held_share: float, seed: int) -> tuple[Rows, Rows]:
    """(taught, held out). Rows with one question stay together, or the held-out loss would see taught rows."""
    questions = sorted({asked(row) for row in found})
    count = round(held_share * len(questions))
    if held_share and (count == 0 or count == len(questions)):
        raise BadInput(f"--eval-share {held_share} of {len(questions)} questions leaves none on one side; "
                       "give more rows, or another share")
    held = set(random.Random(seed).sample(questions, count))
    rows = Rows(row for row in found if asked(row) not in held)
    rows.skipped, rows.refusals = found.skipped, found.refusals
    return rows, Rows(row for row in found if asked(row) in held)


def asked(row: Row) -> tuple[str, str]:
    """What a row asks, with its instruction."""
    return row.instruction, row.input


def load_dataset(s: TrainSettings, tokenizer) -> Dataset:
    """Everything `--data` and `--eval-data` name. Raises BadInput."""
    if s.eval_data and s.eval_share:
        raise BadInput("--eval-data and --eval-share are both given; give one of them")
    special = tokenizer.all_special_tokens
    rows, held = split(read_rows(s.data, special, s.columns, s.skip_bad_rows), s.eval_share, s.seed)
    if s.eval_data:
        held = read_rows(s.eval_data, special, s.columns, s.skip_bad_rows)

    def encode(some: Rows) -> EncodedRows:
        skipped = some.skipped if s.skip_bad_rows else None
        return encode_rows(some, tokenizer, s.max_length, s.ending, s.whole_text, skipped)

    data = Dataset(rows, encode(rows), held, encode(held))
    ending = tokenizer.encode(s.ending, add_special_tokens=False)
    check_encoded(list(islice(data.encoded, CHECKED)), tokenizer, s.max_length, ending)
    return data
