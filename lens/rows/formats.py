"""The layouts that question-answer data comes in, known by their keys, and how each becomes rows.

    instruction, input, output     `input` may be missing or empty: then the instruction is the question
    … with system or history       Alpaca as LLaMA-Factory extends it: instruction and input together are the question
    question, answer · prompt, response · prompt, completion (texts, or lists of messages)
    messages · conversations       several turns (OpenAI's, ShareGPT's); every answer in them is taught
    HC3                            one question, lists of answers

A question is taught where it will be asked, in the user's turn; what stands before it as `system` is the system turn.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from lens.errors import BadRows
from lens.rows.columns import TEXTS, Columns, plain_key, shown
from lens.rows.row import NOTHING, Row, Taken, bad, checked, one_row

ROLES = {"system": "system", "developer": "system", "user": "user", "human": "user", "assistant": "assistant",
         "gpt": "assistant", "bot": "assistant", "model": "assistant", "chatgpt": "assistant", "bing": "assistant"}
TURN = ("role", "from", "content", "value")  # what is read of a turn
# How a ChatGPT answer begins that does not answer. 作为一个 alone is no refusal (作为一个整体…): what follows decides.
REFUSAL = re.compile(
    r"\s*(?:(?:非常|十分|真的|很)?抱歉|对不起|不好意思|我(?:无法|不能|没有能力|没有办法)|无法(?:回答|提供|确定)"
    r"|(?:作为|我(?:只)?是)(?:一个|一名|一款|一种)?.{0,12}?(?:AI|人工智能|语言模型|机器人|虚拟助手))", re.IGNORECASE)


@dataclass(frozen=True)
class Format:
    """A layout: its name, the known names it needs and those it also reads, and how its values become rows."""

    name: str
    needs: tuple[str, ...]
    also: tuple[str, ...]
    take: Callable[[Mapping[str, Any], str, bool], Taken]


def take_alpaca(value: Mapping[str, Any], where: str, answers: bool) -> Taken:
    instruction, question, answer = (checked(value.get(n), n, where) for n in ("instruction", "input", "output"))
    if not question.strip():
        instruction, question = "", instruction
    return one_row(instruction, question, answer, where, answers, "output")


def take_alpaca_with_history(value: Mapping[str, Any], where: str, answers: bool) -> Taken:
    texts = [checked(value.get(n), n, where) for n in ("system", "instruction", "input", "output")]
    history = value.get("history") or []
    if not isinstance(history, list) or not all(isinstance(turn, (list, tuple)) and len(turn) == 2 for turn in history):
        raise bad("row-history", where, found=repr(history)[:60])
    earlier = tuple((checked(q, "history", where), checked(a, "history", where)) for q, a in history)
    if not all(q.strip() and a.strip() for q, a in earlier):
        raise bad("row-history", where, found=repr(history)[:60])
    question = "\n".join(text for text in texts[1:3] if text.strip())
    return one_row(texts[0], question, texts[3], where, answers, "output", earlier)


def take_pair(asked: str, answered: str) -> Callable[[Mapping[str, Any], str, bool], Taken]:
    def take(value: Mapping[str, Any], where: str, answers: bool) -> Taken:
        lists = [isinstance(value.get(name), list) for name in (asked, answered)]
        if all(lists) and asked == "prompt":
            return take_messages({"messages": [*value[asked], *value[answered]], **value}, where, answers)
        texts = [checked(value.get(name), name, where) for name in ("system", "instruction", asked, answered)]
        return one_row("\n".join(filter(None, texts[:2])), texts[2], texts[3], where, answers, answered)
    return take


def take_messages(value: Mapping[str, Any], where: str, answers: bool) -> Taken:
    name = "messages" if "messages" in value else "conversations"
    found = value[name]
    if isinstance(found, dict) and found and all(isinstance(part, list) for part in found.values()):
        found = [dict(zip(found, turn, strict=True)) for turn in zip(*found.values(), strict=True)]  # a table's form
    if not isinstance(found, list):
        raise bad("row-turns-no-list", where, field=name, found=type(found).__name__)
    turns = [turn_of(turn, number, where) for number, turn in enumerate(found, 1)]
    unread = {f"{name}[].{key}" for turn in found for key, held in turn.items()
              if key not in (*TURN, "tool_calls") and held not in NOTHING}
    system = checked(value.get("system"), "system", where)
    if turns and turns[0][0] == "system":
        system, turns = turns[0][1] or system, turns[1:]
    first = len(found) - len(turns) + 1
    for number, (role, text) in enumerate(turns, first):
        expected = "user" if (number - first) % 2 == 0 else "assistant"
        if role != expected:
            raise bad("row-turn-out-of-order", where, number=number, role=role, expected=expected)
        if not text.strip():
            raise bad("row-turn-empty", where, number=number, role=role)
    pairs = tuple((turns[i][1], turns[i + 1][1]) for i in range(0, len(turns) - 1, 2))
    if len(turns) % 2 and not answers:
        return Taken([Row(system, turns[-1][1], "", where, pairs)], unread=unread)
    if not pairs:
        raise bad("row-turns-no-answer", where, field=name)
    return Taken([Row(system, *pairs[-1], where, pairs[:-1])], open_questions=len(turns) % 2, unread=unread)


def turn_of(turn: object, number: int, where: str) -> tuple[str, str]:
    """(role, text) of one message, OpenAI's or ShareGPT's. Raises BadRows."""
    if not isinstance(turn, dict):
        raise bad("row-turn-no-object", where, number=number, found=type(turn).__name__)
    role = turn.get("role", turn.get("from"))
    text = turn.get("content", turn.get("value"))
    if isinstance(text, list) and all(isinstance(p, dict) and p.get("type") == "text" for p in text):
        text = "".join(str(part.get("text", "")) for part in text)
    role = "tool_calls" if turn.get("tool_calls") else role
    if str(role).lower() not in ROLES:
        raise bad("row-turn-role", where, number=number, role=str(role)[:40], keys=shown(turn))
    return ROLES[str(role).lower()], checked(text, f"turn {number}", where)


def take_hc3(value: Mapping[str, Any], where: str, answers: bool) -> Taken:
    """HC3's question with each of its ChatGPT answers. The original experiment trained on those of its Chinese half."""
    found = value["chatgptanswers"]
    if not isinstance(found, list):
        raise bad("row-hc3-answers", where, found=type(found).__name__)
    kept = [answer for answer in found if not is_refusal(answer)]
    question = checked(value["question"], "question", where)
    rows = [one_row("", question, checked(answer, "chatgpt_answers", where), where, True, "chatgpt_answers").rows[0]
            for answer in kept]
    return Taken(rows, refusals=len(found) - len(kept) if found else 1)


def is_refusal(answer: object) -> bool:
    """Does an answer (of HC3) begin as those do that decline to answer?"""
    return isinstance(answer, str) and REFUSAL.match(answer) is not None


OURS = Format("instruction/input/output", ("input", "output"), ("instruction",), take_alpaca)
WITH_HISTORY = Format("Alpaca with history and system", ("output",), ("instruction", "input", "system", "history"),
                      take_alpaca_with_history)
ALONE = Format("instruction/output", ("instruction", "output"), (), take_alpaca)
# The first whose keys are all there is the one.
FORMATS = (
    Format("HC3", ("question", "humananswers", "chatgptanswers"), (), take_hc3),
    Format("messages", ("messages",), ("system",), take_messages),
    Format("ShareGPT", ("conversations",), ("system",), take_messages),
    OURS,
    ALONE,
    Format("question/answer", ("question", "answer"), ("instruction", "system"), take_pair("question", "answer")),
    Format("prompt/completion", ("prompt", "completion"), ("system",), take_pair("prompt", "completion")),
    Format("prompt/response", ("prompt", "response"), ("system",), take_pair("prompt", "response")),
)
QUESTIONS = (  # where no answer is needed
    Format("questions", ("input",), ("instruction", "output"), take_alpaca),
    Format("questions", ("question",), ("instruction", "system", "answer"), take_pair("question", "answer")),
    Format("questions", ("prompt",), ("system", "completion"), take_pair("prompt", "completion")),
    Format("questions", ("instruction",), ("output",), take_alpaca),
)


@dataclass(frozen=True)
class Layout:
    """How rows with the same keys are read: their format, known name → the key that holds it, and keys of known names
    that `--columns` leaves out, which must hold no text."""

    format: Format
    keys: Mapping[str, str]
    left_out: tuple[str, ...] = ()

    @property
    def used(self) -> frozenset[str]:
        return frozenset(self.keys.values())

    def take(self, value: Mapping[str, Any], where: str, answers: bool) -> Taken:
        """The rows in one parsed value with these keys. Raises BadRows."""
        for key in self.left_out:
            if value[key] not in NOTHING:
                raise bad("row-column-dropped", where, column=key[:40])
        return self.format.take({name: value[key] for name, key in self.keys.items()}, where, answers)


def recognise(names: Iterable[str], columns: Columns, where: str, answers: bool = True) -> Layout:
    """The layout of a row with these keys. Raises BadRows where it is none that can be learnt from."""
    names = list(names)
    found = columns.keys(names, where)
    if {"chosen", "rejected"} <= found.keys() and not columns.given:
        raise bad("row-preference", where)
    fields = columns.given.keys() - {"system", "messages"}
    if found.keys() & {"system", "history"} and found.keys() & {"instruction", "input"} and "output" in found:
        known: tuple[Format, ...] = (WITH_HISTORY,)
    elif fields:
        known = (OURS, ALONE) if answers else (OURS, ALONE, *QUESTIONS)
    else:
        known = FORMATS if answers else FORMATS + QUESTIONS
    fitting = next((format for format in known if all(name in found for name in format.needs)), None)
    if fitting is None:
        raise nothing_fits(names, found, columns, where)
    keys = {name: found[name] for name in (*fitting.needs, *fitting.also) if name in found}
    left_out = [key for key in names if key not in keys.values() and key not in columns.unused
                and plain_key(key) in TEXTS]
    return Layout(fitting, keys, tuple(left_out) if columns.given else ())


def nothing_fits(names: list[str], found: Mapping[str, str], columns: Columns, where: str) -> BadRows:
    """Why rows with these keys cannot be learnt from."""
    if "text" in found and len(found) == 1 and not columns.given:
        return bad("row-plain-text", where)
    for asked, answered in (("input", "output"), ("question", "answer"), ("instruction", "output")):
        if (asked in found) != (answered in found):
            return bad("row-field-missing", where, field=answered if asked in found else asked, found=shown(names))
    return bad("row-keys-unknown", where, found=shown(names))
