"""What the report's measures are called, which way is better, and how their values are written. Words only."""

from __future__ import annotations

from dataclasses import dataclass


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
