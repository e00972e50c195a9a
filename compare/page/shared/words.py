"""The page's words in Chinese and English.

Our own HTML carries both languages in spans, of which style.css shows one (`html[data-lang]`). Labels that
Gradio draws are written in Chinese and exchanged by language.js from `LABELS`, so that a switch needs no reload.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape


def spans(zh: str, en: str) -> str:
    """Both languages as spans, of which the page shows one. Escapes them."""
    return f'<span class="lang-zh" lang="zh-CN">{escape(zh)}</span><span class="lang-en" lang="en">{escape(en)}</span>'


@dataclass(frozen=True)
class Words:
    """One phrase in both languages; `{name}` in it is filled in by `html` and `text`."""

    zh: str
    en: str

    def html(self, **values: object) -> str:
        """Both languages as escaped spans; values are escaped as well."""
        return spans(self.zh.format(**values), self.en.format(**values))

    def text(self, **values: object) -> str:
        """Both languages in one line, for attributes and plain text."""
        return f"{self.zh} · {self.en}".format(**values)


def both(zh: str, en: str, tag: str = "span") -> str:
    """Both languages as spans (or other tags). Give it escaped text."""
    return f'<{tag} class="zh lang-zh" lang="zh-CN">{zh}</{tag}> <{tag} class="en lang-en" lang="en">{en}</{tag}>'


def heading(zh: str, en: str, lead_zh: str, lead_en: str) -> str:
    """A section's heading and its one sentence. Give it escaped text."""
    return f'<header><h2>{both(zh, en)}</h2><p>{both(lead_zh, lead_en)}</p></header>'


# What Gradio draws: Chinese → English. A tab's module may bring more in a table of its own, `LABELS`.
LABELS = {
    "并排比较": "Compare", "改变了什么": "What changed", "原理": "How it works",
    "问题": "Question", "用中文问一个问题": "Ask in Chinese", "提问": "Ask", "停止": "Stop",
    "适配器": "Adapter", "随机抽一道没练过的题": "A random question it never trained on",
    "设置：长度、温度、种子": "Settings: length, temperature, seed", "指令（系统）": "Instruction (system turn)",
    "指令": "Instruction", "最大长度（token）": "Maximum length (tokens)", "温度": "Temperature",
    "0：每步都取最可能的 token": "0: always the likeliest token", "top-p": "top-p",
    "只从概率最大的一部分里抽": "draw only from the likeliest part", "随机种子": "Seed",
    "同一种子，同一结果": "same seed, same answer", "适配器强度": "Adapter strength",
    "0 是原模型，1 是训练所得，其余是外推": "0 is the base, 1 as trained, beyond that extrapolated",
    "＋ 加一列": "＋ Add a column",
    "再加一列：换适配器或提示": "Add a column: adapter or prompt",
    "＋ 加一列原模型，不套对话格式": "＋ Add the base without the chat format",
    "换成你自己的模型": "Use your own model", "哪个适配器": "Which adapter",
}

WHY = {
    "stop": (Words("自己说完停下", "ended by itself"),
             Words("它生成了结束符 </s>（end of sequence）：模型认为说完了。",
                   "It produced </s>, the end-of-sequence token: the model considered the answer finished.")),
    "length": (Words("到长度上限被截断", "cut at the maximum length"),
               Words("写满了最大长度（max_new_tokens），结束符 </s> 一直没有出现。",
                     "It filled the maximum length (max_new_tokens); the end token </s> never came.")),
    "loop": (Words("陷入循环，已截住", "stopped in a loop"),
             Words("末尾一再重复同一段，于是不再往下写。",
                   "Its end kept repeating one pattern, so writing was stopped.")),
    "cancelled": (Words("已被你停止", "stopped by you"),
                  Words("你按了“停止”。已写出的部分留在这里。", "You pressed Stop. What was written stays here.")),
    None: (Words("正在写…", "writing…"),
           Words("一次写一个 token，各列同步前进。", "One token at a time, all columns in step.")),
}
TOKENS = (Words("{n} 个 token", "{n} tokens"),
          Words("token：模型读写的最小单位，大约一个词或一两个汉字。",
                "A token is the unit a model reads and writes: about a word, or one or two Chinese characters."))
SPEED = (Words("{n} token/秒", "{n} tokens/s"),
         Words("各列在同一个批次里一起前进，所以速度相近。",
               "All columns advance in one batch, so their speeds are alike."))
REPEATS = (Words("{n}% 是重复", "{n}% repeated"),
           Words("seq-rep-4：答案里每四个连续 token 为一组，之前已出现过的组所占的比例。",
                 "seq-rep-4: the share of runs of four tokens that had occurred before in the answer."))
NO_REPEATS = Words("没有重复", "no repetition")
LOOP = (Words("循环 ×{copies}", "loop ×{copies}"),
        Words("末尾是同一段（{period} 个 token）重复了 {copies} 遍；从第一遍起用底色标出。",
              "It ends in {copies} copies of one pattern of {period} tokens; shaded from the first copy on."))

BASE_TITLE = (Words("原模型", "Base"), Words("没有适配器", "no adapter"))
ADAPTED_TITLE = (Words("适配后", "Adapted"), Words("同一模型 + LoRA {name}", "same model + LoRA {name}"))
STRENGTH_TITLE = (Words("强度 {strength}", "Strength {strength}"),
                  Words("LoRA {name} × {strength}", "LoRA {name} × {strength}"))
OFF_TITLE = (Words("适配器已关", "Adapter off"), Words("强度 0：就是原模型", "strength 0: the base itself"))

PLAIN_TITLE = (Words("原文续写", "Plain prompt"),
               Words("原模型，不套对话格式", "the base, without the chat format"))
PLAIN_PROMPT = (Words("提示不同", "another prompt"),
                Words("只把问题原文（不带指令）交给原模型，让它接着写：这是它预训练时的做法。"
                      "提示与别的列不同，所以不能拿来和适配后的一列比高下。",
                      "The base gets the question alone, as running text without the instruction, and writes on, as in "
                      "pretraining. The prompt differs from the other columns', so this is no measure "
                      "of the adapter."))

COPY, COPIED = Words("复制", "Copy"), Words("已复制", "Copied")
FOCUS, REMOVE = Words("只看这列", "Focus"), Words("去掉这列", "Remove")
LINK, TOO_LONG = Words("复制链接", "Copy link"), Words("问题太长，做不成链接", "too long for a link")
EMPTY = Words("（什么也没写，直接结束）", "(nothing: it ended at once)")
READING = Words("正在读题…", "reading the question…")
NOTHING_YET = Words("问一个问题，或点一个例子。", "Ask a question, or click on an example.")
PRECOMPUTED = Words("启动时预先算好", "computed when the page started")
REFERENCE = Words("参考答案（这个问法没有用来训练）", "Reference answer (this wording was kept out of training)")
NO_QUESTION = Words("还没有问题：请输入一个，比如“哈尔滨工业大学的校训是什么？”",
                    "The question is empty: type one, such as 哈尔滨工业大学的校训是什么？")
CHECK = Words("请检查", "Please check")
BROKEN = Words("出错了，这次没有答完。请再问一次；若仍如此，请看服务器日志。",
               "Something went wrong before the answer was finished. Ask again; if it stays so, see the server's log.")
