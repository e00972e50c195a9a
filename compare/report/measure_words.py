"""The report in words: what its measures are called and how their values are written, and the verdict in sentences.

The verdict, English and Chinese: did it help, does it end, what was forgotten, off topic. It reads the dictionaries of
`summary`; a sentence claims a change only where its 95% interval excludes none.
"""

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


# ---- the verdict

# How much harder plain text may become, as a ratio of perplexities, for each word.
FORGETTING = ((1.05, "next to nothing", "几乎没有"), (1.3, "a little", "有一些"), (2.0, "noticeably much", "明显"))
WORST = ("very much", "很严重")


def percent(figure: dict) -> str:
    return f"{figure['value']:.1%}"


def span(figure: dict, form: str) -> str:
    return f"{figure['low']:{form}} … {figure['high']:{form}}"


def sentence(level: str, en: str, zh: str) -> dict:
    """`level`: "good", "bad" or "same", for whoever draws it."""
    return {"level": level, "en": en, "zh": zh}


def direction(difference: dict, better: int = 1) -> str:
    """Does the interval exclude zero, and on which side?"""
    if difference["low"] > 0 or difference["high"] < 0:
        return "good" if difference["value"] * better > 0 else "bad"
    return "same"


def helped(base: dict, adapted: dict) -> dict:
    before, after = base["measures"]["right"], adapted["measures"]["right"]
    change, paired = adapted["difference"]["right"], adapted["mcnemar"]
    level = direction(change)
    en = {"good": "It helped", "bad": "It did harm", "same": "No difference in right answers can be shown"}[level]
    zh = {"good": "有帮助", "bad": "变差了", "same": "看不出对错上的差别"}[level]
    chance = f"p {paired['p']:.2g}" if paired["p"] >= 0.001 else "p < 0.001"
    return sentence(level,
                    f"{en}: {percent(after)} of {after['n']} questions right, without the adapter {percent(before)} "
                    f"({change['value'] * 100:+.1f} points, 95% {change['low'] * 100:+.1f} … "
                    f"{change['high'] * 100:+.1f}; {paired['wrong_to_right']} became right, "
                    f"{paired['right_to_wrong']} became wrong, McNemar {chance}).",
                    f"{zh}：{after['n']} 个问题答对 {percent(after)}，没有适配器时 {percent(before)}；"
                    f"{paired['wrong_to_right']} 个由错变对，{paired['right_to_wrong']} 个由对变错。")


def ending(base: dict, adapted: dict) -> dict:
    ends, loops = (tuple(v["measures"][m] for v in (base, adapted)) for m in ("ended", "loops"))
    level = direction(adapted["difference"]["ended"])
    if level == "same":
        level = direction(adapted["difference"]["loops"], better=-1)
    return sentence(level,
                    f"{percent(ends[1])} of its answers end by themselves, without the adapter {percent(ends[0])}; "
                    f"{percent(loops[1])} run into a loop, without it {percent(loops[0])}.",
                    f"{percent(ends[1])} 的回答自己结束，没有适配器时 {percent(ends[0])}；"
                    f"{percent(loops[1])} 陷入重复，没有时 {percent(loops[0])}。")


def forgetting(base: dict, adapted: dict) -> dict:
    ratio, before, after = adapted["plain"]["ratio"], base["plain"]["perplexity"], adapted["plain"]["perplexity"]
    figures = f"{before['value']:.1f} → {after['value']:.1f}, × {ratio['value']:.2f} (95% {span(ratio, '.2f')})"
    if ratio["high"] < 1:
        return sentence("good", f"Plain text became easier: perplexity {figures}.",
                        f"普通文本变得更容易预测：困惑度 {figures}。")
    if ratio["low"] <= 1:
        return sentence("same", f"No forgetting of plain text can be shown: perplexity {figures}.",
                        f"看不出对普通文本的遗忘：困惑度 {figures}。")
    en, zh = next(((en, zh) for worst, en, zh in FORGETTING if ratio["value"] <= worst), WORST)
    return sentence("same" if ratio["value"] <= FORGETTING[0][0] else "bad",
                    f"It forgot {en} of plain text: perplexity {figures}.", f"对普通文本的遗忘{zh}：困惑度 {figures}。")


def off_topic(base: dict, adapted: dict) -> dict:
    before, after = (v["off_topic"]["does_not_know"] for v in (base, adapted))
    if after is None:
        return sentence("same", "Nothing was asked off topic; add rows of kind “unknown” to see what it does there.",
                        "没有题外问题；加入 kind 为 “unknown” 的行便可看到。")
    loops = adapted["off_topic"]["loops"]
    level = "good" if after["low"] > before["high"] else "bad" if after["high"] < before["low"] else "same"
    return sentence(level,
                    f"Of {after['n']} questions off its topic it says in {percent(after)} that it does not know, "
                    f"without the adapter {percent(before)}; the other {1 - after['value']:.1%} it answers all the "
                    f"same ({percent(loops)} of all in a loop).",
                    f"{after['n']} 个题外问题中，{percent(after)} 答“不知道”（没有适配器时 {percent(before)}），"
                    f"其余 {1 - after['value']:.1%} 照答不误。")


def verdict(variants: list[dict]) -> dict:
    """All four, by name. `variants` as in report.json: the base, then the adapter."""
    base, adapted = variants[:2]
    return {said.__name__: said(base, adapted) for said in (helped, ending, forgetting, off_topic)}
