"""Which column of the data holds which field of a row: `--columns`, and HC3's own layout. Standard library only."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from lens.errors import BadInput

FIELDS = ("instruction", "input", "output")
NEEDED = ("input", "output")

# HC3 (Guo et al. 2023, "How Close is ChatGPT to Human Experts?"): one question, lists of answers. The
# original experiment trained on the ChatGPT answers of its Chinese half.
HC3 = ("question", "human_answers", "chatgpt_answers")

# How a ChatGPT answer begins that does not answer. 作为一个 alone is no refusal (作为一个整体…): what follows decides.
REFUSAL = re.compile(
    r"\s*(?:(?:非常|十分|真的|很)?抱歉|对不起|不好意思|我(?:无法|不能|没有能力|没有办法)|无法(?:回答|提供|确定)"
    r"|(?:作为|我(?:只)?是)(?:一个|一名|一款|一种)?.{0,12}?(?:AI|人工智能|语言模型|机器人|虚拟助手))", re.IGNORECASE)


@dataclass(frozen=True)
class Columns:
    """The column that each field is read from."""

    instruction: str = "instruction"
    input: str = "input"
    output: str = "output"
    given: frozenset[str] = frozenset()  # fields that `--columns` named

    def is_hc3(self, names: Collection[str]) -> bool:
        """Is a table (or an object) with these column names laid out as HC3? Never where `--columns` was given."""
        return not self.given and all(name in names for name in HC3)

    def wanted(self, names: Collection[str]) -> list[str]:
        """Those of the table's columns that are worth reading."""
        mine = HC3 if self.is_hc3(names) else [getattr(self, field) for field in FIELDS]
        return [name for name in names if name in mine]

    def problem(self, names: list[str]) -> str:
        """What keeps a table with these columns from being read, or ''."""
        if self.is_hc3(names):
            return ""
        for field in FIELDS:
            column = getattr(self, field)
            if names.count(column) > 1:
                return f"column {column!r} stands twice, expected it once"
            if column not in names and (field in NEEDED or field in self.given):
                found = ", ".join(repr(str(name)[:40]) for name in list(names)[:12]) or "none"
                return f"column {column!r} is missing, found {found}; say which it is by --columns {field}=NAME"
        return ""


def parse_columns(given: Iterable[str]) -> Columns:
    """`["input=question", "output=answer"]` → Columns. Raises BadInput."""
    names: dict[str, str] = {}
    for pair in given:
        field, equals, column = pair.partition("=")
        if not equals or field not in FIELDS or not column:
            raise BadInput(f"--columns {pair!r}: expected FIELD=COLUMN, FIELD being one of {', '.join(FIELDS)}, "
                           "such as input=question output=answer")
        if field in names:
            raise BadInput(f"--columns names {field} twice ({names[field]!r}, {column!r}); name it once")
        names[field] = column
    return Columns(**names, given=frozenset(names))


def is_refusal(answer: object) -> bool:
    """Does an answer (of HC3) begin as those do that decline to answer?"""
    return isinstance(answer, str) and REFUSAL.match(answer) is not None
