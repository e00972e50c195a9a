"""The figures of one answer: is it right, how near the reference, did it end, does it loop. Pure; no model.

chrF: Popović, "chrF: character n-gram F-score for automatic MT evaluation" (2015), as sacrebleu computes it;
seq-rep-4: Welleck et al. (2019), see `compare.analysis.repetition`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cache

from compare.analysis.repetition import find_loop, seq_rep
from compare.report.rows import Row

# An answer that says that it does not know contains one of these, and ends: in a long ramble they mean nothing.
DOES_NOT_KNOW = ("不知道", "不清楚", "不了解", "不熟悉", "没有资料", "没有相关", "无法回答", "答不上来",
                 "只了解哈工大", "只答哈工大", "没有这", "没有别的", "不掌握", "看不懂", "没看懂", "听不懂", "不会",
                 "没有该", "资料里没有", "没法回答", "只懂哈工大", "只会回答", "只能回答", "只熟悉哈工大", "知识仅限于",
                 "没有学过", "没学过", "答不了", "帮不上", "做不了", "说不好", "不太会", "不在行", "不明白", "不理解",
                 "不懂", "不太懂", "查不到", "无法得知", "只会用中文",
                 "don't know", "do not know", "cannot answer", "can't answer", "cannot say", "can't say",
                 "can't tell you", "no information", "don't have that", "don't have information",
                 "don't have any information", "not something i was taught", "nothing i was taught", "was never told",
                 "beyond what i know", "know of no", "never heard of", "not aware of")


def says_it_does_not_know(text: str) -> bool:
    plain = text.casefold().replace("’", "'")
    return any(words in plain for words in DOES_NOT_KNOW)


@dataclass(frozen=True)
class Answer:
    """One variant's answer to one row. None: cannot be said, for want of a reference or of a base to compare with.

    `chrf` 0 to 100; `seq_rep_4`, `shifted` shares of 0 to 1; `mean_kl` nats a token, KL(adapted‖base) along this
    answer; `reference_log_likelihood` nats a token of the row's reference, its `</s>` included.
    """

    variant: str
    adapter: str | None
    strength: float
    text: str
    finish_reason: str
    tokens: int
    exact: bool | None
    keywords: bool | None
    right: bool
    chrf: float | None
    ended: bool
    loop: dict | None  # {"period", "copies", "onset"}, tokens
    seq_rep_4: float | None
    does_not_know: bool
    mean_kl: float | None = None
    shifted: float | None = None
    reference_log_likelihood: float | None = None

    @property
    def loops(self) -> bool:
        return self.loop is not None

    @classmethod
    def from_dict(cls, value: dict) -> Answer:
        """Raises TypeError where fields are missing."""
        return cls(**{f.name: value[f.name] for f in fields(cls) if f.name in value})


def exact(text: str, reference: str) -> bool | None:
    """Are they the same, whitespace aside?"""
    return "".join(text.split()) == "".join(reference.split()) if reference.strip() else None


def all_keywords(text: str, keywords: Sequence[str]) -> bool | None:
    """Is every keyword in the text, whatever its case? `a|b` is there where a or b is."""
    has = text.casefold()
    return all(any(way in has for way in k.casefold().split("|")) for k in keywords) if keywords else None


@cache
def scorer():
    from sacrebleu.metrics import CHRF

    return CHRF()


def chrf(text: str, reference: str) -> float | None:
    """Character n-gram F-score, 0 to 100; None without a reference."""
    return scorer().sentence_score(text, [reference]).score if reference.strip() else None


def judge(row: Row, variant: str, adapter: str | None, strength: float, text: str, token_ids: Sequence[int],
          finish_reason: str) -> Answer:
    """The figures of an answer. Right: every keyword is in it; without keywords: it equals the reference."""
    same, has = exact(text, row.output), all_keywords(text, row.keywords)
    loop = find_loop(token_ids)
    return Answer(variant, adapter, strength, text, finish_reason, len(token_ids), same, has,
                  bool(same if has is None else has), chrf(text, row.output), finish_reason == "stop",
                  vars(loop) if loop else None, seq_rep(token_ids),
                  finish_reason == "stop" and says_it_does_not_know(text))
