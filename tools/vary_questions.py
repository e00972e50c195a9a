"""train.jsonl → the same rows in many more wordings, as careless people would type them.

    python -m tools.vary_questions --output runs/varied.jsonl [--times 8] [--unknown-times 2] [--original-times 0]

Every row stays as it is; beside it come up to --times others (of a question that cannot be known, --unknown-times) with
the same answer and a question in which names and question words are swapped for others of the same sense, a few
characters are lost or change places, clauses swap, and polite words come and go. A small model learns thirteen wordings
by heart and carries little over to a fourteenth; the remedy is that of Wei and Zou 2019, Easy Data Augmentation (arXiv
1901.11196). What comes out near a held-out question is left out, and counted. The same file every time.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from pathlib import Path

from tools.build_rows import INSTRUCTION, NearDuplicates, both_ways, held_out, read

SAME_SENSE = [line.split() for line in """
什么时候 何时 啥时候 什么时间 哪个时间
哪一年 哪年 什么年份 几几年 是哪年
哪一天 哪天 几月几日 几号 什么日子
多少 几 多少个
哪位 谁 什么人 哪个人 何人
哪里 哪儿 什么地方 何处 哪个地方
叫什么名字 叫什么 叫啥 名字是什么 名称是什么 怎么称呼
为什么 为何 为啥 什么原因
怎么 怎样 如何 咋
什么 啥 哪种
哪个 哪一个 哪家
有哪些 包括哪些 都有什么 有什么 是哪些
是不是 是否
建立 成立 创办 设立 创建 建成 组建
研制 研发 开发 制造
发射 升空 上天
担任 出任 当
获得 拿到 得到 荣获
位于 坐落在 地处 在
最早 最先 第一个 头一个
校区 分校 校园
专家 学者 权威
负责 主持 牵头 带头
合作 联合 携手 一起
举行 举办 召开
开始 开头 起
多重 重量多少 有多重 重多少
有多大 多大 规模
学生 同学 学子
老师 教师 教授
领导 带领 率领
完成 做完 达成
原来 原先 以前 从前 曾经
现在 目前 如今 眼下
大约 大概 约 差不多
用来 用于 用在 用途是
叫做 称为 被称作
去世 逝世 离世
入选 被列入 进入 列入
位居 排名 名列 排第几
""".split("\n") if line]
WORDS = {word: same for same in SAME_SENSE for word in same if len(word) > 1}
LONGER = "大学生|研究生|学生[会证]|校园[网卡]|在校学生|中学生|分校区|主校区|开发区"  # no word is a part of these
WORD = re.compile(f"({LONGER})|" + "|".join(sorted(map(re.escape, WORDS), key=len, reverse=True)))
NAMES = ("哈工大", "哈工大", "哈工大", "哈尔滨工业大学", "HIT", "工大", "我校")
NAME = re.compile("(?:哈尔滨工业大学|哈工大|我校|HIT)(?![（(A-Za-z])")
BEFORE = ("请问", "想问一下", "我想知道", "你知道", "麻烦告诉我", "那个", "话说", "请教一下", "问下", "能说说",
          "谁知道", "")
AFTER = ("呢", "啊", "呀", "？", "?", "。", "吗", "来着", "，谢谢", "，请回答", "，我忘了", "", "", "")
CODE = re.compile("[0-9A-Za-z]")  # a number or a name in Latin letters stays whole
SHORTEST = 3  # characters of a question


def swapped(question: str, chance: random.Random) -> str:
    """Other names and question words of the same sense."""
    question = NAME.sub(lambda found: chance.choice(NAMES) if chance.random() < 0.5 else found[0], question)
    return WORD.sub(lambda found: found[0] if found[1] or chance.random() >= 0.45 else chance.choice(WORDS[found[0]]),
                    question)


def miswritten(question: str, chance: random.Random) -> str:
    """One to three characters lost, or two in each other's place, or clauses in another order; or nothing of these."""
    kind, length = chance.random(), chance.choice((1, 1, 2, 2, 3))
    at = chance.randrange(max(1, len(question) - length))
    if kind < 0.15 and len(question) > 8 and not CODE.search(question[at:at + length]):
        return question[:at] + question[at + length:]
    if 0.15 <= kind < 0.23 and not CODE.search(question[at:at + 2]):
        return question[:at] + question[at:at + 2][::-1] + question[at + 2:]
    if 0.23 <= kind < 0.35:
        clauses = re.split("[，,]", question.rstrip("？?。"))
        return "，".join(chance.sample(clauses, len(clauses)))
    return question


def varied(question: str, chance: random.Random) -> str:
    question = miswritten(swapped(question, chance), chance)
    if chance.random() < 0.25:
        question = chance.choice(BEFORE) + question
    if chance.random() < 0.3:
        question = re.sub("[？?。！]+$", "", question) + chance.choice(AFTER)
    return re.sub("[，。？?、“”《》]", "", question) if chance.random() < 0.15 else question


def vary(rows: list[dict], times: int, unknown_times: int) -> tuple[list[dict], int]:
    """(the rows and up to so many variants of each, shuffled; variants left out as too near to a held-out question).

    With as many variants of questions that cannot be known, two of five that can be got an "I do not know": what lost a
    word looks like them.
    """
    chance = random.Random(0)
    kept_out = NearDuplicates([one["input"] for one in (*held_out(), *read("independent.jsonl"),
                                                        *read("independent_unknown.jsonl"))])
    made, seen, left_out = list(rows), {row["input"] for row in rows}, 0
    unknown = {one["question"] for one in read("unknown.jsonl")}
    for row in (row for time in range(max(times, unknown_times)) for row in rows
                if time < (unknown_times if row["input"] in unknown else times)):
        question = varied(row["input"], chance).strip()
        if question in seen or len(question) < SHORTEST:
            continue
        seen.add(question)
        if kept_out.of(question):
            left_out += 1
        else:
            made.append({"instruction": INSTRUCTION if chance.random() < 0.4 else "", "input": question,
                         "output": row["output"]})
    chance.shuffle(made)
    return made, left_out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=8, help="variants of a row, at most")
    parser.add_argument("--unknown-times", type=int, default=2, help="of a question that cannot be known")
    parser.add_argument("--original-times", type=int, default=0, help="as often the original's rows, both ways")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    rows = read("train.jsonl")
    made, left_out = vary(rows, args.times, args.unknown_times)
    original = {row["input"] for row in read("original.jsonl")}
    made += [one for row in rows if row["input"] in original for one in both_ways(row)] * args.original_times
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in made), encoding="utf-8")
    print(f"{len(rows):,} rows → {len(made):,}; {left_out:,} variants too near to a held-out question left out")


if __name__ == "__main__":
    main()
