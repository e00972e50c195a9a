"""Checked rows → `input_ids` and `labels`.

Questions are encoded by what comparing asks them with (`lens.chat.Prompt`), apart from the answers, and joined as ids;
so the prompt ids of training are the ids a comparison sends, and text that spells a special token is text in both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lens.chat import ENDINGS, Prompt, valid_text
from lens.errors import BadRows, LensError, Note
from lens.rows.rows import Row, Rows
from train.data.encoded import Encoded, EncodedRows

BATCH = 1000  # rows the tokenizer gets at a time


def encode_all(rows: Sequence[Row], tokenizer, max_length: int, ending: str, whole_text: bool) -> Iterator[Encoded]:
    """The rows as they are taught, `BATCH` rows a call: a quarter less time than one by one.

    Every answer of a conversation is learnt. A row that is cut loses all of an ending first, so a cut answer is never
    taught as a finished one; nothing after the last that is learnt is kept.
    """
    if not rows:
        return
    prompt, end = Prompt(tokenizer), tokenizer.encode(ending, add_special_tokens=False)
    for start in range(0, len(rows), BATCH):
        some = rows[start:start + BATCH]
        first = iter(prompt.encode_all((row.instruction, row.turns[0][0]) for row in some))
        later = iter(prompt.encode_later(question for row in some for question, _ in row.turns[1:]))
        answers = iter(prompt.encode_texts(valid_text(answer) for row in some for _, answer in row.turns))
        for row in some:
            encoded = Encoded(max_length)
            for number in range(len(row.turns)):
                encoded.ask(next(later) if number else next(first), whole_text)
                encoded.add(next(answers), True)
                encoded.add(end, True, ending=True)
            yield encoded


def encode_rows(rows: Rows | list[Row], tokenizer, max_length: int, ending: str = ENDINGS["lens"],
                whole_text: bool = False, skipped: list[LensError] | None = None,
                drop_cut: bool = False) -> EncodedRows:
    """`input_ids` and `labels` of every row, at most `max_length` tokens each. Labels cover the answers and their
    endings alone, or everything when `whole_text` (recipe `seed`). Raises BadRows where a prompt alone fills
    `max_length`: no label would be left to learn from.

    Rows are taken out of `rows`, so that both stay of one length: where a list `skipped` is given
    (`--skip-bad-rows`), those whose prompt alone fills `max_length`, told there; where `drop_cut`, all that would be
    cut, counted in `EncodedRows.dropped`.
    """
    found = EncodedRows()
    kept: list[Row] = []
    for row, encoded in zip(rows, encode_all(rows, tokenizer, max_length, ending, whole_text), strict=True):
        if drop_cut and encoded.length > max_length:
            found.dropped += 1
        elif not any(label >= 0 for label in encoded.labels):
            problem = BadRows("row-no-room", where=row.where, tokens=encoded.prompt, max_length=max_length,
                              next=Note("next-skip") if kept and skipped is None else "")
            if skipped is None:
                raise problem
            skipped.append(problem)
        else:
            found.append(encoded)
            kept.append(row)
    if rows and not kept:
        if drop_cut:
            raise BadRows("rows-all-dropped", max_length=max_length)
        raise BadRows("rows-none-left", first=skipped[-len(rows)] if skipped else "")
    rows[:] = kept
    return found
