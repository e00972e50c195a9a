"""The report in words: what its measures are called and how their values are written, and the verdict in sentences.

The verdict, English and Chinese: did it help, does it end, what was forgotten, off topic. It reads the dictionaries of
`summary`; a sentence claims a change only where its 95% interval excludes none.
"""

from __future__ import annotations

from dataclasses import dataclass

from lens.errors import Note


@dataclass(frozen=True)
class Measure:
    """A measure of `summary.MEASURES`: its name in words, what it says, its form and which way is better
    (1 up, -1 down, 0 neither)."""

    name: str
    title: str
    chinese: str
    explained: str
    form: str
    better: int = 0

    def value(self, figure: dict | None) -> str:
        return format(figure["value"], self.form) if figure else "–"

    def interval(self, figure: dict | None) -> str:
        return f"{figure['low']:{self.form}} … {figure['high']:{self.form}}" if figure else ""

    def change(self, figure: dict | None) -> str:
        """A difference; shares in points."""
        if not figure:
            return "–"
        if self.form.endswith("%"):
            return (f"{figure['value'] * 100:+.1f} points ({figure['low'] * 100:+.1f} … "
                    f"{figure['high'] * 100:+.1f})")
        return f"{figure['value']:+{self.form}} ({figure['low']:+{self.form}} … {figure['high']:+{self.form}})"


MEASURES = (
    Measure("right", "right", "答对", "every keyword is in the answer; without keywords, it equals the reference",
            ".1%", 1),
    Measure("exact", "equal to the reference", "与参考相同", "the same text, whitespace aside", ".1%", 1),
    Measure("keywords", "all keywords", "关键词齐全", "over questions that have keywords", ".1%", 1),
    Measure("chrf", "chrF", "chrF", "character n-gram F-score against the reference, 0 to 100", ".1f", 1),
    Measure("ended", "ended by itself", "自己结束", "the model put its end token within the limit", ".1%", 1),
    Measure("loops", "in a loop", "陷入重复", "its tail is at least 3 copies of one pattern, 24 tokens or more",
            ".1%", -1),
    Measure("seq_rep_4", "seq-rep-4", "seq-rep-4", "share of 4-grams that occurred before", ".3f", -1),
    Measure("tokens", "tokens", "词元数", "of the answer", ".1f"),
    Measure("mean_kl", "mean KL against base", "与基座的 KL", "KL(adapted‖base) along the adapted answer, nats a token",
            ".3f"),
    Measure("shifted", "shifted tokens", "被改变的词元", "the adapted choice is not among the base's first three",
            ".1%"),
    Measure("reference_log_likelihood", "log-likelihood of the reference", "参考答案的对数似然",
            "nats a token, its end included", ".3f", 1),
)
NAMED = {measure.name: measure for measure in MEASURES}
BIG = tuple(map(NAMED.__getitem__, ("right", "ended", "loops")))  # shown large


# ---- the verdict

# How much harder plain text may become, as a ratio of perplexities, for each word.
FORGETTING = ((1.05, "forgot-next-to-nothing"), (1.3, "forgot-a-little"), (2.0, "forgot-noticeably"))
OUTCOMES = {"good": "outcome-helped", "bad": "outcome-harm", "same": "outcome-none"}


def sentence(level: str, said: Note) -> dict:
    """`level`: "good", "bad" or "same", for whoever draws it."""
    return {"level": level, **said.in_both}


def direction(difference: dict, better: int = 1) -> str:
    """Does the interval exclude zero, and on which side?"""
    if difference["low"] > 0 or difference["high"] < 0:
        return "good" if difference["value"] * better > 0 else "bad"
    return "same"


def helped(base: dict, adapted: dict) -> dict:
    change, paired = adapted["difference"]["right"], adapted["mcnemar"]
    level = direction(change)
    return sentence(level, Note(
        "verdict-helped", outcome=Note(OUTCOMES[level]), before=base["measures"]["right"],
        after=adapted["measures"]["right"], points={name: 100 * value for name, value in change.items()},
        paired=paired, chance=f"p {paired['p']:.2g}" if paired["p"] >= 0.001 else "p < 0.001"))


def ending(base: dict, adapted: dict) -> dict:
    level = direction(adapted["difference"]["ended"])
    if level == "same":
        level = direction(adapted["difference"]["loops"], better=-1)
    return sentence(level, Note("verdict-ending", base=base["measures"], adapted=adapted["measures"]))


def forgetting(base: dict, adapted: dict) -> dict:
    ratio = adapted["plain"]["ratio"]
    known = {"before": base["plain"]["perplexity"], "after": adapted["plain"]["perplexity"], "ratio": ratio}
    if ratio["high"] < 1:
        return sentence("good", Note("verdict-easier", **known))
    if ratio["low"] <= 1:
        return sentence("same", Note("verdict-not-forgotten", **known))
    much = next((code for worst, code in FORGETTING if ratio["value"] <= worst), "forgot-very-much")
    return sentence("same" if much == FORGETTING[0][1] else "bad", Note("verdict-forgot", much=Note(much), **known))


def off_topic(base: dict, adapted: dict) -> dict:
    before, after = (v["off_topic"]["does_not_know"] for v in (base, adapted))
    if after is None:
        return sentence("same", Note("verdict-off-topic-not-asked"))
    level = "good" if after["low"] > before["high"] else "bad" if after["high"] < before["low"] else "same"
    return sentence(level, Note("verdict-off-topic", before=before, after=after, answered=1 - after["value"],
                                loops=adapted["off_topic"]["loops"]))


def verdict(variants: list[dict]) -> dict:
    """All four, by name. `variants` as in report.json: the base, then the adapter."""
    base, adapted = variants[:2]
    return {said.__name__: said(base, adapted) for said in (helped, ending, forgetting, off_topic)}
