"""What a visitor asks for a comparison: question, instruction, columns and settings, and the same as a link."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from urllib.parse import urlencode

from compare.engine.interface import BASE, Engine, Sampling, Variant
from compare.page.shared.column_list import AskedColumn, bounded, columns_of, from_link, link_of, shown_columns
from lens.chat import valid_text
from lens.errors import BadSetting

FIRST_QUESTION, FIRST_INSTRUCTION = "哈工大有多少杰出人才", "请回答下面的问题"
LONGEST_LINK = 2000  # characters of query; what every browser and proxy carries
SIGNS = ";:,*~"  # which a link shows as they are
# What the page's sliders offer.
LENGTHS, TEMPERATURES, TOP_PS, STRENGTHS = (8, 512), (0.0, 2.0), (0.05, 1.0), (-0.5, 2.0)
SEEDS = (0, 2**31 - 1)


def checked_texts(**texts: object) -> list[str]:
    """The same texts. Raises BadSetting for one that is none, as a program may send."""
    for name, text in texts.items():
        if not isinstance(text, str):
            raise BadSetting("text-expected", name=name, value=repr(text)[:80])
    return [str(text) for text in texts.values()]


@dataclass(frozen=True)
class ComparisonRequest:
    """One question with its columns. `on`: the adapter switch; `columns`: those beside the base, which is always the
    first; None: those that the engine shows."""

    question: str = FIRST_QUESTION
    instruction: str = FIRST_INSTRUCTION
    on: bool = True
    columns: tuple[AskedColumn, ...] | None = None
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
        """The columns, base first. Raises LensError for one that there cannot be, and for too many."""
        columns = shown_columns(engine) if self.columns is None else self.columns
        off = [replace(column, strength=0.0) for column in columns] if not self.on else columns
        return columns_of([BASE, *(column.variant(engine) for column in off)])

    def query(self, usual: str = FIRST_INSTRUCTION) -> str:
        """`q=…`, with only what differs from a fresh page. `usual`: the instruction of one."""
        first = ComparisonRequest()
        words = {"q": self.question, "i": self.instruction, "on": int(self.on), "n": self.max_new_tokens,
                 "t": f"{self.temperature:g}", "p": f"{self.top_p:g}", "seed": self.seed,
                 "c": None if self.columns is None else link_of(self.columns)}
        same = {"i": usual, "on": 1, "n": first.max_new_tokens, "t": "0", "p": "1", "seed": 0, "c": None}
        return urlencode({k: v for k, v in words.items() if k not in same or v != same[k]}, safe=SIGNS)

    def link(self, usual: str = FIRST_INSTRUCTION) -> str | None:
        """`?q=…`; None where it would be too long."""
        query = self.query(usual)
        return f"?{query}" if len(query) <= LONGEST_LINK else None

    @classmethod
    def from_link(cls, params: Mapping[str, str], shown: tuple[AskedColumn, ...] = (),
                  usual: str = FIRST_INSTRUCTION) -> ComparisonRequest | None:
        """What a link asks; None where it holds no question, not even an empty one. Odd values become the nearest
        allowed ones. `shown`: the columns of a fresh page, to which links of before added theirs; `usual`: its
        instruction."""
        if "q" not in params:
            return None
        on, columns = params.get("on", "1") != "0", from_link(params["c"]) if "c" in params else None
        if columns is None and (added := added_by_old_link(params, shown)):
            columns, on = (*(shown if on else [replace(column, strength=0.0) for column in shown]), *added), True
        return cls(params["q"], params.get("i", usual), on, columns,
                   int(bounded(params.get("n"), 128, LENGTHS)), bounded(params.get("t"), 0.0, TEMPERATURES),
                   bounded(params.get("p"), 1.0, TOP_PS), int(bounded(params.get("seed"), 0, SEEDS)))


def added_by_old_link(params: Mapping[str, str], shown: tuple[AskedColumn, ...]) -> list[AskedColumn]:
    """The columns of a link from before columns stood in one list: strengths of the first adapter in `s`, and in `a`
    other adapters as `trained-1@0.5`, or the base in plain text."""
    strengths = [bounded(text, 1.0, STRENGTHS) for text in params.get("s", "").split(",") if text]
    added = [replace(shown[0], strength=strength) for strength in strengths] if shown else []
    for text in filter(None, params.get("a", "").split(",")):
        name, at, strength = text.rpartition("@")
        added += [AskedColumn(prompt="plain") if text == "plain" else
                  AskedColumn(name, bounded(strength, 1.0, STRENGTHS)) if at else AskedColumn(text)]
    return added
