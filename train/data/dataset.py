"""The rows of a run: read, split into taught and held out, encoded."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from lens.errors import BadSetting
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

    @property
    def contradictions(self) -> list[Row]:
        """A row of each question that is taught with different answers."""
        first: dict[tuple, Row] = {}
        found = {}
        for row in self.rows:
            known = first.setdefault(context(row), row)
            if known.output != row.output:
                found[context(row)] = row
        return list(found.values())

    @property
    def leaked(self) -> list[Row]:
        """Held-out rows whose question is taught as well."""
        taught = {context(row) for row in self.rows}
        return [row for row in self.eval_rows if context(row) in taught]


def context(row: Row) -> tuple:
    """All that a row's last answer answers to."""
    return row.instruction, row.earlier, row.input


def asked(row: Row) -> tuple[str, str]:
    """What a row asks first, with its instruction."""
    return row.instruction, row.turns[0][0]


def split(found: Rows, held_share: float, seed: int) -> tuple[Rows, Rows]:
    """(taught, held out). Rows with one question stay together, or the held-out loss would see taught rows."""
    questions = sorted({asked(row) for row in found})
    count = round(held_share * len(questions))
    if held_share and (count == 0 or count == len(questions)):
        raise BadSetting("held-out-one-side", share=held_share, questions=len(questions))
    held = set(random.Random(seed).sample(questions, count))
    return found.of(row for row in found if asked(row) not in held), Rows(row for row in found if asked(row) in held)


def load_dataset(s: TrainSettings, tokenizer) -> Dataset:
    """Everything `--data` and `--eval-data` name. Raises BadSetting or BadRows."""
    if s.eval_data and s.eval_share:
        raise BadSetting("held-out-twice")

    def read(paths: Sequence[str]) -> Rows:
        return read_rows(paths, s.columns, s.skip_bad_rows, s.encoding)

    def encode(some: Rows) -> EncodedRows:
        skipped = some.skipped if s.skip_bad_rows else None
        return encode_rows(some, tokenizer, s.max_length, s.ending, s.whole_text, skipped, s.drop_cut_rows)

    rows, held = split(read(s.data), s.eval_share, s.seed)
    if s.eval_data:
        held = read(s.eval_data)
    data = Dataset(rows, encode(rows), held, encode(held))
    ending = tokenizer.encode(s.ending, add_special_tokens=False)
    check_encoded(list(islice(data.encoded, CHECKED)), tokenizer, s.max_length, ending)
    return data
