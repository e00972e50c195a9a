"""What an engine refuses, told to a visitor in Chinese and English. Goes by the sentence; knows no component.

Libraries say one English sentence, for terminals and logs. The page says the Chinese beside it where `CHINESE` has it;
one that is not there stays English, and is none the worse for it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from html import escape

from compare.page.shared.words import NO_QUESTION, spans

# The English sentence → the Chinese, with the same values.
CHINESE = {
    r"the question is empty; .+": NO_QUESTION.zh,
    r"the question has ([\d,]+) characters and the instruction ([\d,]+); together at most ([\d,]+) are allowed; .+":
        "问题有 {} 个字符，指令有 {} 个；合起来最多 {} 个。请缩短一些。",
    r"the question is (\d+) tokens long and the answer may have (\d+); together at most (\d+) are allowed; .+":
        "问题有 {} 个 token，回答最多可有 {} 个；合起来最多 {} 个。请缩短问题，或减小“最大长度”。",
    r"there is not enough memory for this question, even by itself; .+":
        "内存不够：单独回答这个问题也放不下。请减少列数或最大长度，或给模型更多内存。",
    r"the model's thread ended twice, .+": "模型的线程两次中断，已不能回答。请重新启动程序；原因写在服务器日志里。",
    r"a model's logits are NaN or infinite, .+": "模型给出的 logits 里有 NaN 或无穷大，无法给回答打分。请用 float32，"
                                                     "或换一个以较低学习率训练的适配器。",
    r"token id (\d+) cannot begin an answer; allowed: (.+), but not (\d+), which ends one":
        "token {} 不能作回答的开头；可用：{}，但 {} 除外，它表示结束。",
    r"the answer is to begin with (\d+) tokens; allowed: fewer than .+":
        "回答已有 {} 个 token 的开头，不短于它的最大长度。请减少一些。",
    r"([\w-]+) (?:is|are) (.+); allowed: (.+)": "{} 是 {}；可用：{}。",
}


@dataclass(frozen=True)
class Told:
    """One refusal; `zh` is empty where there is no Chinese for it."""

    zh: str
    en: str

    @classmethod
    def of(cls, error: Exception) -> Told:
        said = str(error)
        found = ((re.fullmatch(english, said, re.DOTALL), chinese) for english, chinese in CHINESE.items())
        return cls(next((chinese.format(*match.groups()) for match, chinese in found if match), ""), said)

    def html(self) -> str:
        """Escaped; both languages as spans, or the English alone."""
        return spans(self.zh, self.en) if self.zh else escape(self.en)

    def text(self) -> str:
        """For a message that Gradio draws, and for whoever calls the API."""
        return f"{self.zh} · {self.en}" if self.zh else self.en
