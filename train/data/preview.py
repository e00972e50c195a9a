"""What a run is about to learn from, shown before its first step, and the checks that its labels are right.

Draws with rich, on stderr.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter

from rich.console import Console, Group
from rich.text import Text

from lens.errors import Note
from lens.rows.rows import Rows
from lens.terminal_text import one_line, visible
from train.data.encoded import IGNORED, EncodedRows

BAR = 30  # characters of the longest bar
PROMPT, ANSWER, SPECIAL = "dim", "bold bright_green", "bold reverse bright_green"


def draw_counts(rows: Rows, encoded: EncodedRows, max_length: int) -> Text:
    """How many rows there are, what they were read as, and what was left out of them."""
    text = Text(f"{len(rows):,} rows, {encoded.cut(max_length):,} cut at --max-length {max_length:,}")
    for note in rows.notes():
        plain = note.code in ("read-as", "refusals-left-out")
        text.append(f"\n{one_line(note)}", "" if plain else "yellow")
    return text


def draw_lengths(lengths: Sequence[int], max_length: int) -> Text:
    """A histogram of tokens a row, before any was cut; each bar covers twice the lengths of the one before."""
    count = Counter(length.bit_length() for length in lengths)
    text, most = Text("tokens a row"), max(count.values(), default=0)
    for bits in range(min(count, default=0), max(count, default=-1) + 1):
        rows, low, high = count[bits], 1 << (bits - 1), (1 << bits) - 1
        bar = "█" * max(round(BAR * rows / most), rows > 0)
        text.append(f"\n{low:>7,} – {high:<7,} ").append(bar, "yellow" if low > max_length else "cyan")
        text.append(f" {rows:,}")
    return text


def draw_row(row: dict[str, list[int]], tokenizer) -> Text:
    """What of a row is read and what is learnt, in words and colours."""
    ids, labels, special = row["input_ids"], row["labels"], set(tokenizer.all_special_ids)
    at = first_learnt(labels)
    text = Text(f"first row, read ({at:,} tokens):\n" if at else "")
    text.append(_decode(tokenizer, ids[:at]), PROMPT)
    text.append(f"\nfirst row, learnt ({len(ids) - labels.count(IGNORED):,} tokens):\n")
    styles = (PROMPT if label == IGNORED else SPECIAL if label in special else ANSWER for label in labels[at:])
    for style, run in groupby(zip(styles, ids[at:], strict=True), key=itemgetter(0)):
        text.append(_decode(tokenizer, [i for _, i in run]), style)
    return text


def first_learnt(labels: Sequence[int]) -> int:
    """The position of the first label; all of them where there is none."""
    return next((at for at, label in enumerate(labels) if label != IGNORED), len(labels))


def _decode(tokenizer, ids: list[int]) -> str:
    """Text without control characters: a row must not be able to steer the terminal."""
    return visible(tokenizer.decode(ids, skip_special_tokens=False))


def show_rows(rows: Rows, encoded: EncodedRows, tokenizer, max_length: int, console: Console | None = None,
              notes: Sequence[Note] = (), calm: Sequence[str] = ()) -> None:
    """Print counts, lengths, the first row as it will be learnt, and notes, those whose code is not `calm` as
    warnings; to stderr unless a console is given."""
    console = console or Console(stderr=True, highlight=False, soft_wrap=True)
    first = draw_row(encoded[0], tokenizer) if len(encoded) else Text()
    console.print(Group(draw_counts(rows, encoded, max_length), draw_lengths(encoded.lengths, max_length), first,
                        *(Text(one_line(note), "" if note.code in calm else "yellow")
                          for note in notes)))


def check_encoded(encoded: Sequence[dict[str, list[int]]], tokenizer, max_length: int,
                  ending_ids: Sequence[int]) -> None:
    """Assert that every whole row ends in its ending, learnt, and that no cut row does.

    `ending_ids`: the ids of the recipe's ending; may be none. Raises AssertionError where labels are wrong.
    """
    ending = list(ending_ids)
    marker = next((i for i in ending if i in tokenizer.all_special_ids), None)  # no answer contains it
    for number, row in enumerate(encoded, 1):
        ids, labels = row["input_ids"], row["labels"]
        ends = not ending or labels[-len(ending):] == ending == ids[-len(ending):]
        if len(ids) != len(labels) or len(ids) > max_length:
            raise AssertionError(f"row {number}: {len(ids)} ids, {len(labels)} labels, at most {max_length}")
        if not ends and len(ids) + len(ending) <= max_length:
            raise AssertionError(f"row {number} is whole, yet its labels do not end in {ending}")
        last = labels[len(labels) - next((n for n, label in enumerate(reversed(labels)) if label == IGNORED), 0):]
        if not ends and labels[0] == IGNORED and marker in last:
            raise AssertionError(f"row {number} is cut, yet the ending's token {marker} is among its labels")
