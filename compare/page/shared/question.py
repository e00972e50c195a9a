"""What a visitor asked: question, instruction, columns and settings, and the same as a link."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from compare.engine.interface import Sampling

FIRST_QUESTION, FIRST_INSTRUCTION = "哈工大有多少杰出人才", "请回答下面的问题"
ANOTHER = re.compile(r"[\w-]{1,120}@-?\d{1,2}(\.\d{1,4})?")  # an adapter at a strength, as a column of its own
LONGEST_LINK = 2000  # characters of query; what every browser and proxy carries
LONGEST_TEXT = 4000  # characters of a question or an instruction
PLAIN = "plain"  # a further column: the base, asked in plain text
MOST_COLUMNS = 4
MOST_EXTRAS = MOST_COLUMNS - 2  # beyond base and adapted
LENGTHS, TEMPERATURES, TOP_PS, STRENGTHS = (8, 512), (0.0, 2.0), (0.05, 1.0), (-0.5, 2.0)
SEEDS = (0, 2**31 - 1)


def bounded(text: str | None, default: float, limits: tuple[float, float]) -> float:
    """The number in `text` held within limits; the default where there is none."""
    try:
        value = float(text if text is not None else default)
    except ValueError:
        return default
    return min(max(value, limits[0]), limits[1]) if math.isfinite(value) else default


@dataclass(frozen=True)
class Asked:
    """One question as asked. `on`: the adapter switch; `extras`: of each further column the first adapter's strength,
    or another adapter with its strength, as `trained-1@0.5`, or PLAIN."""

    question: str = FIRST_QUESTION
    instruction: str = FIRST_INSTRUCTION
    on: bool = True
    extras: tuple[float | str, ...] = ()
    max_new_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0

    @property
    def sampling(self) -> Sampling:
        """Raises BadQuestion where a setting is out of range."""
        return Sampling(int(self.max_new_tokens), float(self.temperature), float(self.top_p), int(self.seed))

    def link(self) -> str | None:
        """`?q=…`, with only what differs from a fresh page; None where it would be too long."""
        first = Asked()
        words = {"q": self.question, "i": self.instruction, "on": int(self.on), "n": self.max_new_tokens,
                 "t": f"{self.temperature:g}", "p": f"{self.top_p:g}", "seed": self.seed,
                 "s": ",".join(f"{s:g}" for s in self.extras if not isinstance(s, str)),
                 "a": ",".join(a for a in self.extras if isinstance(a, str))}
        same = {"i": first.instruction, "on": 1, "n": first.max_new_tokens, "t": "0", "p": "1", "seed": 0, "s": "",
                "a": ""}
        query = urlencode({k: v for k, v in words.items() if k not in same or v != same[k]})
        return f"?{query}" if len(query) <= LONGEST_LINK else None

    @classmethod
    def from_link(cls, params: Mapping[str, str]) -> Asked | None:
        """What a link asks; None where it asks nothing. Odd values become the nearest allowed ones."""
        question = params.get("q", "")[:LONGEST_TEXT]
        if not question.strip():
            return None
        strengths = [s for s in params.get("s", "").split(",")[:MOST_EXTRAS] if s]
        extras: list[float | str] = [bounded(s, 1.0, STRENGTHS) for s in strengths]
        extras += [a for a in params.get("a", "").split(",") if a == PLAIN or ANOTHER.fullmatch(a)]
        return cls(question, params.get("i", FIRST_INSTRUCTION)[:LONGEST_TEXT], params.get("on", "1") != "0",
                   tuple(extras[:MOST_EXTRAS]), int(bounded(params.get("n"), 128, LENGTHS)),
                   bounded(params.get("t"), 0.0, TEMPERATURES), bounded(params.get("p"), 1.0, TOP_PS),
                   int(bounded(params.get("seed"), 0, SEEDS)))
