"""What can go wrong, as a small tree. Libraries raise these; entry points print them.

    LensError
    ├── BadSetting    an option out of range, or a place that cannot be written
    ├── BadQuestion   an empty or too long question
    ├── BadRows       a file of rows that cannot be read, or rows that cannot be used
    ├── BadBase       a base model that cannot be loaded
    ├── BadAdapter    a directory that is no adapter, or not one for this base
    └── Unavailable   nothing wrong with what was asked: memory ran out, or the model's thread is gone

An error is a code and named values; its sentence is in `sentences/*.toml`, in English and Chinese:

    raise BadAdapter("adapter-file-missing", path=path, file="adapter_config.json")

`str(err)` is the English sentence, `err.zh` the Chinese one, `err.code` and `err.values` are for programs.
"""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path

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


def said(code: str, language: str, values: dict) -> str:
    """The sentence of a code in "en" or "zh". A value that is an error or a note says itself in the same language."""
    words = {name: value.said(language) if isinstance(value, (LensError, Note)) else value
             for name, value in values.items()}
    return sentences()[code][language].format(**words)


class LensError(ValueError):
    """One sentence meant for the user, by its code and named values; see the module."""

    def __init__(self, code: str, **values: object):
        self.code, self.values = code, values
        super().__init__(code)

    def said(self, language: str) -> str:
        """The sentence in "en" or "zh"."""
        if self.code not in sentences():  # a sentence without a code yet
            return self.code
        return said(self.code, language, self.values)

    def __str__(self) -> str:
        return self.said("en")

    def __reduce__(self):
        return rebuilt, (type(self), self.code, self.values)

    @property
    def zh(self) -> str:
        return self.said("zh")

    def as_dict(self) -> dict:
        """For JSON and API answers: {"code", "message", "message_zh"}."""
        return {"code": self.code, "message": str(self), "message_zh": self.zh}


def rebuilt(kind: type[LensError], code: str, values: dict) -> LensError:
    """An error out of a pickle, which another process sent."""
    return kind(code, **values)


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


class Note:
    """Something a user is told though nothing went wrong: a code and named values, said as an error is."""

    def __init__(self, code: str, **values: object):
        self.code, self.values = code, values

    def said(self, language: str) -> str:
        """The sentence in "en" or "zh"."""
        return said(self.code, language, self.values)

    def __str__(self) -> str:
        return self.said("en")

    def as_dict(self) -> dict:
        """For JSON: {"code", "message", "message_zh"}."""
        return {"code": self.code, "message": str(self), "message_zh": self.said("zh")}
