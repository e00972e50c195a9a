"""What a run is about to learn from, shown before its first step, and the checks that its labels are right.

Draws with rich, on stderr.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from rich.console import Console, Group
from rich.text import Text

from lens.errors import BadInput
from lens.rows.rows import Rows
from lens.terminal_text import one_line, visible
from train.data.encoded import IGNORED, EncodedRows

BAR = 30  # characters of the longest bar
PROMPT, ANSWER, SPECIAL = "dim", "bold bright_green", "bold reverse bright_green"


def draw_counts(rows: Rows, encoded: EncodedRows, max_length: int) -> Text:
    """How many rows there are, and what became of the others; one line, one more for each thing to look at."""
    cut = sum(length > max_length for length in encoded.lengths)
    text = Text(f"{len(rows):,} rows, {cut / max(1, len(encoded)):.1%} cut at --max-length {max_length:,}")
    if rows.refusals:
        text.append(f"\n{rows.refusals:,} answers that refuse, or are missing, left out")
    if rows.skipped:
        text.append(f"\n{len(rows.skipped):,} bad rows skipped, the first: {one_line(rows.skipped[0])}",
                    "yellow")
    if duplicates := rows.duplicates:
        text.append(f"\n{duplicates:,} rows say again what another row says; they count twice", "yellow")
    return text


def draw_lengths(lengths: Sequence[int], max_length: int) -> Text:
    """A histogram of tokens a row, before any was cut; each bar covers twice the lengths of the one before."""
    count: dict[int, int] = {}
    for length in lengths:
        count[length.bit_length()] = count.get(length.bit_length(), 0) + 1
    text, most = Text("tokens a row"), max(count.values(), default=0)
    for bits in range(min(count, default=0), max(count, default=-1) + 1):
        rows, low, high = count.get(bits, 0), 1 << (bits - 1), (1 << bits) - 1
        bar = "█" * max(round(BAR * rows / most), rows > 0)
        text.append(f"\n{low:>7,} – {high:<7,} ").append(bar, "yellow" if low > max_length else "cyan")
        text.append(f" {rows:,}")
    return text


def draw_row(ids: list[int], at: int, tokenizer) -> Text:
    """One row, learnt from position `at` on: prompt dimmed, answer bright, its special tokens (its end) reversed.

    Both halves are named as well, for a log file that has no colours.
    """
    special = set(tokenizer.all_special_ids)
    text = Text(f"first row, read ({at:,} tokens):\n" if at else "")
    text.append(_decode(tokenizer, ids[:at]), PROMPT)
    text.append(f"\nfirst row, learnt ({len(ids) - at:,} tokens):\n")
    for is_special, run in groupby(ids[at:], key=special.__contains__):
        text.append(_decode(tokenizer, list(run)), SPECIAL if is_special else ANSWER)
    return text


def _decode(tokenizer, ids: list[int]) -> str:
    """Text without control characters: a row must not be able to steer the terminal."""
    return visible(tokenizer.decode(ids, skip_special_tokens=False))


def show_rows(rows: Rows, encoded: EncodedRows, tokenizer, max_length: int, console: Console | None = None) -> None:
    """Print counts, lengths and the first row as it will be learnt; to stderr unless a console is given."""
    console = console or Console(stderr=True, highlight=False, soft_wrap=True)
    first = draw_row(encoded[0]["input_ids"], encoded.learnt_from[0], tokenizer) if len(encoded) else Text()
    console.print(Group(draw_counts(rows, encoded, max_length), draw_lengths(encoded.lengths, max_length), first))


def check_encoded(encoded: Sequence[dict[str, list[int]]], tokenizer, max_length: int,
                  ending_ids: Sequence[int]) -> None:
    """Assert that every whole row ends in its ending, learnt, and that no cut row does.

    `ending_ids`: the ids of the recipe's ending; may be none. Raises BadInput where the tokenizer pads with its end
    token (the base is at fault), AssertionError where labels are wrong (we are).
    """
    pad, ending = tokenizer.pad_token_id, list(ending_ids)
    if pad is None or pad in ending:
        what = "no pad token" if pad is None else f"{tokenizer.pad_token!r} for padding and as the end of an answer"
        raise BadInput(f"the base's tokenizer has {what}; set a pad_token of its own in its tokenizer_config.json")
    marker = next((i for i in ending if i in tokenizer.all_special_ids), None)  # no answer contains it
    for number, row in enumerate(encoded, 1):
        ids, labels = row["input_ids"], row["labels"]
        ends = not ending or labels[-len(ending):] == ending == ids[-len(ending):]
        if len(ids) != len(labels) or len(ids) > max_length:
            raise AssertionError(f"row {number}: {len(ids)} ids, {len(labels)} labels, at most {max_length}")
        if not ends and len(ids) + len(ending) <= max_length:
            raise AssertionError(f"row {number} is whole, yet its labels do not end in {ending}")
        if not ends and labels[0] == IGNORED and marker in labels:
            raise AssertionError(f"row {number} is cut, yet the ending's token {marker} is among its labels")
