"""Which column of the data holds which field of a row: `--columns`, and keys that differ from a known one by case,
spaces or punctuation. Standard library only."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from lens.errors import BadRows, BadSetting

FIELDS = ("instruction", "input", "output", "system", "history", "messages")  # that `--columns` can name
UNUSED = "unused"
# The keys by which formats are known, and other spellings of them.
ALSO = {"指令": "instruction", "输入": "input", "输出": "output", "问题": "question", "问": "question",
        "答案": "answer", "回答": "answer", "答": "answer", "conversation": "conversations"}
KNOWN = ("instruction", "input", "output", "system", "history", "question", "answer", "prompt", "completion",
         "response", "messages", "conversations", "chosen", "rejected", "text", "humananswers", "chatgptanswers")
TEXTS = frozenset(KNOWN) - {"text", "chosen", "rejected"}  # `--columns` leaves none of these out without a word


def plain_key(key: object) -> str:
    """A key without case, spaces and punctuation: `"Instruction : "` → `"instruction"`."""
    found = re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", str(key))).casefold()
    return ALSO.get(found, found)


@dataclass(frozen=True)
class Columns:
    """What `--columns` said: field → the column it is read from, and the columns left out on purpose."""

    given: dict[str, str] = field(default_factory=dict)
    unused: frozenset[str] = frozenset()

    def keys(self, names: Collection[str], where: str) -> dict[str, str]:
        """Known name → the key that holds it, for a row with these keys. Raises BadRows where a column that was named
        is not there, or two keys claim one name and neither is spelt as it is."""
        found = dict(self.given)
        for name, column in self.given.items():
            if column not in names:
                raise BadRows("row-column-missing", where=where, field=name, column=column[:40], found=shown(names),
                              next="")
        for key in names:
            name = plain_key(key)
            if name not in KNOWN or name in self.given or key in self.given.values() or key in self.unused:
                continue
            if name not in found or key == name:
                found[name] = key
            elif found[name] != name:
                raise BadRows("row-keys-alike", where=where, one=found[name][:40], two=key[:40], field=name, next="")
        return found


def shown(names: Iterable[object], most: int = 8) -> str:
    """A row's keys for a sentence."""
    names = list(names)
    return ", ".join(repr(str(key)[:40]) for key in names[:most]) or "none"


def parse_columns(given: Iterable[str]) -> Columns:
    """`["input=question", "output=answer"]` → Columns. Raises BadSetting."""
    names: dict[str, str] = {}
    unused: set[str] = set()
    for pair in given:
        name, equals, column = pair.partition("=")
        if not equals or name not in (*FIELDS, UNUSED) or not column:
            raise BadSetting("columns-malformed", pair=pair[:80], fields=", ".join(FIELDS))
        if name == UNUSED:
            unused.add(column)
        elif name in names:
            raise BadSetting("columns-field-twice", field=name, one=names[name][:40], two=column[:40])
        elif column in names.values():
            raise BadSetting("columns-source-twice", column=column[:40],
                             one=next(one for one, other in names.items() if other == column), two=name)
        else:
            names[name] = column
    if clash := unused & set(names.values()):
        raise BadSetting("columns-source-twice", column=min(clash)[:40], one=UNUSED,
                         two=next(one for one, other in names.items() if other in clash))
    if "messages" in names and len(names) > 1 and set(names) - {"messages", "system"}:
        raise BadSetting("columns-messages-alone", other=min(set(names) - {"messages", "system"}))
    return Columns(names, frozenset(unused))
