"""What can go wrong, as a small tree. Libraries raise these; entry points print them.

    LensError
    ├── BadSetting    an option out of range, or a place that cannot be written
    ├── BadQuestion   an empty or too long question
    ├── BadRows       a file of rows that cannot be read, or rows that cannot be used
    ├── BadBase       a base model that cannot be loaded
    ├── BadAdapter    a directory that is no adapter, or not one for this base
    └── Unavailable   nothing wrong with what was asked: memory ran out, or the model's thread is gone

An error is a code and named values, as is a `Note`, which tells something though nothing went wrong; its sentence
is in `sentences/*.toml`, in English and Chinese:

    raise BadAdapter("adapter-file-missing", path=path, file="adapter_config.json")

`str(err)` is the English sentence, `err.zh` the Chinese one, `err.code` and `err.values` are for programs.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any, Self

SENTENCES = Path(__file__).resolve().parent / "sentences"


@cache
def sentences() -> dict[str, dict[str, str]]:
    """Code → {"en", "zh"}, from every table. Raises ValueError for a code that stands in two."""
    found: dict[str, dict[str, str]] = {}
    for table in sorted(SENTENCES.glob("*.toml")):
        for code, said in tomllib.loads(table.read_text(encoding="utf-8")).items():
            if code in found:
                raise ValueError(f"{table.name}: the code {code} stands twice")
            found[code] = said
    return found


def said(code: str, language: str, values: Mapping[str, object]) -> str:
    """The sentence of a code in "en" or "zh". A value that is an error or a note says itself in the same language."""
    words = {name: value.said(language) if isinstance(value, Sentence) else value
             for name, value in values.items()}
    return sentences()[code][language].format(**words)


class Sentence:
    """A code and named values that say themselves in either language."""

    def __init__(self, code: str, **values: object):
        self.code, self.values = code, values

    def said(self, language: str) -> str:
        """The sentence in "en" or "zh"."""
        return said(self.code, language, self.values)

    def __str__(self) -> str:
        return self.said("en")

    @property
    def zh(self) -> str:
        return self.said("zh")

    @property
    def in_both(self) -> dict[str, str]:
        """For JSON that tells results: {"en", "zh"}."""
        return {"en": str(self), "zh": self.zh}

    def as_dict(self) -> dict[str, str]:
        """For JSON and API answers: {"code", "message", "message_zh"}."""
        return {"code": self.code, "message": str(self), "message_zh": self.zh}


class LensError(Sentence, ValueError):
    """What went wrong, meant for the user; see the module."""

    def __reduce__(self) -> tuple[Any, ...]:
        """As other processes send it, its values too."""
        return partial(type(self), self.code, **self.values), ()

    def with_next(self, step: Note | str) -> Self:
        """The same with another next step, of those whose sentence has a place for one."""
        return type(self)(self.code, **{**self.values, "next": step})


class Note(Sentence):
    """Something a user is told though nothing went wrong."""


class BadSetting(LensError):
    pass


class BadQuestion(LensError):
    pass


class BadRows(LensError):
    pass


class BadBase(LensError):
    pass


class BadAdapter(LensError):
    pass


class Unavailable(LensError):
    pass


def first_line(err: BaseException) -> str:
    """The first line of what a library's exception says, fit for a sentence; its kind where it says nothing."""
    return (str(err).strip() or type(err).__name__).splitlines()[0][:200]

