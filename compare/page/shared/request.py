"""What a visitor asks for a comparison: question, instruction, columns and settings, and the same as a link."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import get_args
from urllib.parse import urlencode

from compare.engine.interface import BASE, PLAIN, RANGES, Engine, LoadedAdapter, Sampling, Variant, unique_names
from lens.chat import Form, valid_text
from lens.errors import BadQuestion, BadSetting

FIRST_QUESTION, FIRST_INSTRUCTION = "哈工大有多少杰出人才", "请回答下面的问题"
AT_STRENGTH = re.compile(r".{1,120}@-?\d{1,2}(\.\d{1,4})?")  # an adapter at a strength, as a column of its own
LONGEST_LINK = 2000  # characters of query; what every browser and proxy carries
PLAIN_COLUMN = "plain"  # a further column: the base, asked in plain text
COLUMN_KEYS = ("adapter", "strength", "prompt")
MOST_COLUMNS = 64  # of one comparison
# What the page's sliders offer.
LENGTHS, TEMPERATURES, TOP_PS, STRENGTHS = (8, 512), (0.0, 2.0), (0.05, 1.0), (-0.5, 2.0)
SEEDS = (0, 2**31 - 1)


def first_adapter(engine: Engine) -> LoadedAdapter | None:
    return next(iter(engine.adapters.values()), None)


def loaded_adapter(engine: Engine, name: object) -> LoadedAdapter:
    """The adapter of that name. Raises BadSetting naming those there are."""
    if isinstance(name, str) and name in engine.adapters:
        return engine.adapters[name]
    shown = name[:80] if isinstance(name, str) else name
    if not engine.adapters:
        raise BadSetting("no-adapter-loaded", name=shown)
    raise BadSetting("adapter-not-loaded", name=shown, loaded=", ".join(engine.adapters)[:400])


def columns_of(variants: Sequence[Variant]) -> list[Variant]:
    """The variants under unique names. Raises BadQuestion where one question cannot have as many."""
    if len(variants) > MOST_COLUMNS:
        raise BadQuestion("too-many-columns", columns=len(variants), most=MOST_COLUMNS)
    return unique_names(variants)


def columns_asked(engine: Engine, columns: object) -> list[Variant]:
    """A program's `columns`, [{"adapter": NAME or null, "strength": number, "prompt": "chat" or "plain"}], each key
    by default null, 1 and "chat". Raises BadSetting for what is no such list or names no adapter, BadQuestion for a
    number out of range and for too many."""
    if not isinstance(columns, list) or not columns:
        raise BadSetting("columns-expected", value=repr(columns)[:80])
    return columns_of([column_asked(engine, column) for column in columns])


def column_asked(engine: Engine, column: object) -> Variant:
    """The variant of one entry of `columns`, named by what it shows."""
    if not isinstance(column, dict):
        raise BadSetting("column-expected", value=repr(column)[:80])
    if unknown := [name for name in column if name not in COLUMN_KEYS]:
        raise BadSetting("column-key-unknown", name=repr(unknown[0])[:80], allowed=", ".join(COLUMN_KEYS))
    adapter, prompt = column.get("adapter"), column.get("prompt", "chat")
    if prompt not in get_args(Form):
        raise BadSetting("column-prompt-unknown", value=repr(prompt)[:80], allowed=", ".join(get_args(Form)))
    strength = column.get("strength", 1.0 if adapter is not None else 0.0)
    RANGES["strength"].check("strength", strength)
    found = BASE if adapter is None else Variant.of(loaded_adapter(engine, adapter).name, strength)
    return found if prompt == "chat" else replace(found, name=f"{found.name}, plain prompt", prompt=prompt)


def checked_texts(**texts: object) -> list[str]:
    """The same texts. Raises BadSetting for one that is none, as a program may send."""
    for name, text in texts.items():
        if not isinstance(text, str):
            raise BadSetting("text-expected", name=name, value=repr(text)[:80])
    return [str(text) for text in texts.values()]


def bounded(text: str | None, default: float, limits: tuple[float, float]) -> float:
    """The number in `text` held within limits; the default where there is none."""
    try:
        value = float(text if text is not None else default)
    except ValueError:
        return default
    return min(max(value, limits[0]), limits[1]) if math.isfinite(value) else default


@dataclass(frozen=True)
class ComparisonRequest:
    """One question with its columns. `on`: the adapter switch; `extras`: of each further column the first adapter's
    strength, or another adapter with its strength, as `trained-1@0.5`, or PLAIN_COLUMN."""

    question: str = FIRST_QUESTION
    instruction: str = FIRST_INSTRUCTION
    on: bool = True
    extras: tuple[float | str, ...] = ()
    max_new_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("question", "instruction"):  # no half characters, which neither a link nor JSON can carry
            object.__setattr__(self, name, valid_text(getattr(self, name)))

    @property
    def sampling(self) -> Sampling:
        """Raises BadQuestion where a setting is out of range."""
        return Sampling(int(self.max_new_tokens), float(self.temperature), float(self.top_p), int(self.seed))

    def variants(self, engine: Engine) -> list[Variant]:
        """The columns, base first. Raises BadSetting for an adapter that is not loaded, BadQuestion for too many."""
        more = [self.further(engine, extra) for extra in self.extras]
        return columns_of([*engine.variants([1.0 if self.on else 0.0]), *filter(None, more)])

    @staticmethod
    def further(engine: Engine, extra: float | str) -> Variant | None:
        """The column of one of `extras`; None for a strength where no adapter is loaded."""
        if extra == PLAIN_COLUMN:
            return PLAIN
        if not isinstance(extra, str):
            first = first_adapter(engine)
            return Variant.of(first.name, extra) if first else None
        name, _, strength = extra.rpartition("@")
        return Variant.of(loaded_adapter(engine, name).name, bounded(strength, 1.0, STRENGTHS))

    def link(self) -> str | None:
        """`?q=…`, with only what differs from a fresh page; None where it would be too long."""
        first = ComparisonRequest()
        words = {"q": self.question, "i": self.instruction, "on": int(self.on), "n": self.max_new_tokens,
                 "t": f"{self.temperature:g}", "p": f"{self.top_p:g}", "seed": self.seed,
                 "s": ",".join(f"{s:g}" for s in self.extras if not isinstance(s, str)),
                 "a": ",".join(a for a in self.extras if isinstance(a, str))}
        same = {"i": first.instruction, "on": 1, "n": first.max_new_tokens, "t": "0", "p": "1", "seed": 0, "s": "",
                "a": ""}
        query = urlencode({k: v for k, v in words.items() if k not in same or v != same[k]})
        return f"?{query}" if len(query) <= LONGEST_LINK else None

    @classmethod
    def from_link(cls, params: Mapping[str, str]) -> ComparisonRequest | None:
        """What a link asks; None where it asks nothing. Odd values become the nearest allowed ones."""
        question = params.get("q", "")
        if not question.strip():
            return None
        extras: list[float | str] = [bounded(s, 1.0, STRENGTHS) for s in params.get("s", "").split(",") if s]
        extras += [a for a in params.get("a", "").split(",") if a == PLAIN_COLUMN or AT_STRENGTH.fullmatch(a)]
        return cls(question, params.get("i", FIRST_INSTRUCTION), params.get("on", "1") != "0", tuple(extras),
                   int(bounded(params.get("n"), 128, LENGTHS)), bounded(params.get("t"), 0.0, TEMPERATURES),
                   bounded(params.get("p"), 1.0, TOP_PS), int(bounded(params.get("seed"), 0, SEEDS)))
