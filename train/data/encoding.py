"""Checked rows → `input_ids` and `labels`.

The prompt and the answer are encoded apart and joined as ids, so the prompt ids of training are the ids a comparison
sends.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lens.chat import ENDINGS, Prompt
from lens.errors import BadInput
from lens.rows.rows import GO_ON, Row
from train.data.encoded import Encoded, EncodedRows

BATCH = 1000  # rows the tokenizer gets at a time


@dataclass(frozen=True, slots=True)
class _Parts:
    """A row's ids: prompt, answer and ending, each encoded apart."""

    row: Row
    prompt: list[int]
    answer: list[int]
    ending: list[int]

    def join(self, max_length: int, whole_text: bool) -> Encoded:
        """The row as it is taught. Raises BadInput where the prompt leaves no room for the answer."""
        if len(self.prompt) >= max_length and not whole_text:
            raise BadInput(f"{self.row.where}: the prompt alone is {len(self.prompt):,} tokens, --max-length "
                           f"{max_length:,}: nothing of the answer would be learnt; raise --max-length or shorten the "
                           "question")
        text = self.prompt + self.answer
        length = len(text) + len(self.ending)
        ids = text + self.ending if length <= max_length else text[:max_length]
        return Encoded(ids, 0 if whole_text else len(self.prompt), length)


def _encode(rows: Sequence[Row], tokenizer, ending: str) -> Iterator[_Parts]:
    """The rows' ids, `BATCH` rows a call: a quarter less time than one by one, at 0.3 ms a row of 200 tokens."""
    if not rows:
        return
    end, prompt = tokenizer.encode(ending, add_special_tokens=False), Prompt(tokenizer)
    for start in range(0, len(rows), BATCH):
        some = rows[start:start + BATCH]
        prompts = prompt.encode_all((row.instruction, row.input) for row in some)
        answers = tokenizer([row.output for row in some], add_special_tokens=False)
        for row, ids, answer in zip(some, prompts, answers["input_ids"], strict=True):
            yield _Parts(row, ids, answer, end)


def encode_row(row: Row, tokenizer, max_length: int, ending: str = ENDINGS["lens"],
               whole_text: bool = False) -> dict[str, list[int]]:
    """`input_ids` and `labels` of one row, at most `max_length` tokens.

    Labels cover the answer and its ending alone, or everything when `whole_text` (recipe `seed`).
    A row that is cut loses all of its ending first, so a cut answer is never taught as a finished one.
    Raises BadInput where the prompt alone fills `max_length`: no label would be left to learn from.
    """
    [parts] = _encode([row], tokenizer, ending)
    return parts.join(max_length, whole_text).features()


def encode_rows(rows: list[Row], tokenizer, max_length: int, ending: str = ENDINGS["lens"], whole_text: bool = False,
                skipped: list[str] | None = None) -> EncodedRows:
    """`encode_row` of every row, compactly. Raises BadInput.

    Where a list `skipped` is given (`--skip-bad-rows`), a row whose prompt alone fills `max_length` is taken out
    of `rows`, so that both stay of one length, and its sentence put there.
    """
    encoded, kept = EncodedRows(), []
    for parts in _encode(rows, tokenizer, ending):
        try:
            encoded.append(parts.join(max_length, whole_text))
            kept.append(parts.row)
        except BadInput as err:
            if skipped is None:
                raise BadInput(f"{err}{GO_ON}") from None
            skipped.append(str(err))
    if rows and skipped and not kept:
        raise BadInput(f"no row is left to learn from; the first: {skipped[-len(rows)]}")
    rows[:] = kept
    return encoded
