"""A chat template, laid out once with stand-ins for what is said, so that a question only has to be put in.

A template comes with a base, from anywhere: it may loop for ever or write gigabytes. transformers runs it in a sandbox
that it cannot leave; here it runs in a child process with limits of time and memory as well, and says a bounded text.
Our own needs no child.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from lens.embedded import EMBEDDED_BASE
from lens.processes import limit

MARKERS = ("<|beginofutterance|>", "<|endofutterance|>")
INSTRUCTION, INPUT, ANSWER = "\ue000", "\ue001", "\ue004"  # private-use stand-ins while the template is laid out
BOS = "{{ bos_token }}"  # before our template, where a tokenizer begins every text with it
SECONDS, MEMORY = 10, 8 << 30  # of processor time, and bytes of address space, that a template may take
PATIENCE = 120  # seconds of wall time, on a busy machine
LONGEST = 100_000  # characters of what a template makes
Messages = list[dict[str, str]]


class BadTemplate(ValueError):
    """A template that cannot be used; its text says why."""


@dataclass(frozen=True)
class Layout:
    """A template's texts with stand-ins. `first`: a first question with an instruction; `bare`: one without; `later`:
    from an answer's end to the next answer, with the next question, or why there is none; `ending`: the token that
    ends an answer; `own_turn`: has the instruction a turn of its own? `trims`: is space around a question taken off?"""

    first: str
    bare: str
    later: str | BadTemplate
    ending: str
    own_turn: bool
    trims: bool


def our_template() -> str:
    return (Path(EMBEDDED_BASE) / "chat_template.jinja").read_text(encoding="utf-8")


def is_ours(template: str) -> bool:
    """Is it in our format, whose instruction always has its turn?"""
    return MARKERS[0] in template


def messages(instruction: str, question: str) -> Messages:
    """A prompt as chat messages; an empty instruction keeps its turn."""
    return [{"role": "system", "content": instruction}, {"role": "user", "content": question}]


def layout_of(tokenizer: Any, limits: bool = True) -> Layout:
    """A tokenizer's template laid out. Raises BadTemplate. `limits`: whether this process has none of its own."""
    tokens = {name: str(value) for name, value in tokenizer.special_tokens_map.items() if isinstance(value, str)}
    return laid_out(tokenizer.chat_template, tuple(sorted(tokens.items())),
                    tuple(sorted(special_tokens(tokenizer))), limits)


def special_tokens(tokenizer: Any) -> dict[str, Any]:
    """Text → the added token, of those that are structure wherever they stand."""
    found = {token.content: token for token in tokenizer.added_tokens_decoder.values() if token.special}
    return found | {text: tokenizer.added_tokens_decoder[number] for text, number in
                    zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True)
                    if number in tokenizer.added_tokens_decoder}


@lru_cache(32)
def laid_out(template: str, tokens: tuple[tuple[str, str], ...], special: tuple[str, ...], limits: bool) -> Layout:
    """`tokens`: those that a template can name, such as `eos_token`; `special`: all that are structure."""
    start = messages("", INPUT) if is_ours(template) else messages("", INPUT)[1:]
    answered = [*start, {"role": "assistant", "content": ANSWER}]
    spaced = [*start[:-1], {"role": "user", "content": f" {INPUT} "}]
    asked = [(messages(INSTRUCTION, INPUT), True), (start, True), (spaced, True), (answered, False),
             ([*answered, {"role": "user", "content": INSTRUCTION}], True)]
    first, bare, loose, closed, going_on = run(template, dict(tokens), asked, limits)
    if isinstance(bare, BadTemplate) and not isinstance(first, BadTemplate):
        bare = first.replace(INSTRUCTION, "")
    own_turn = not isinstance(first, BadTemplate) and first.count(INSTRUCTION) == 1
    if isinstance(bare, BadTemplate):
        raise bare
    if not own_turn or isinstance(first, BadTemplate):
        first = bare.replace(INPUT, f"{INSTRUCTION}\n\n{INPUT}")
    if first.count(INPUT) != 1 or bare.count(INPUT) != 1:
        raise BadTemplate("the question does not stand in it once")
    ending = end_of_turn(closed, special) or dict(tokens).get("eos_token", "")
    trims = not isinstance(loose, BadTemplate) and f" {INPUT} " not in loose
    return Layout(first, bare, from_answer(going_on, ending), ending, own_turn, trims)


def end_of_turn(closed: str | BadTemplate, special: Iterable[str]) -> str:
    """The first special token after an answer; "" where there is none."""
    after = "" if isinstance(closed, BadTemplate) else closed.partition(ANSWER)[2]
    found = re.search("|".join(map(re.escape, sorted(special, key=len, reverse=True))) or "(?!)", after)
    return found[0] if found else ""


def from_answer(text: str | BadTemplate, ending: str) -> str | BadTemplate:
    """What follows an answer that has ended, to the next answer."""
    if isinstance(text, BadTemplate):
        return text
    after = text.partition(ANSWER)[2]
    after = (after.partition(ending)[2] or after) if ending else after
    return after.replace(INSTRUCTION, INPUT) if after.count(INSTRUCTION) == 1 else BadTemplate("it has no second turn")


def run(template: str, tokens: Mapping[str, str], asked: list[tuple[Messages, bool]],
        limits: bool) -> list[str | BadTemplate]:
    """The text of each conversation, with or without the start of an answer, or why there is none."""
    if template.removeprefix(BOS) == our_template() or not limits:
        return [render(template, tokens, *one) for one in asked]
    home = Path(__file__).resolve().parents[1]
    try:
        child = subprocess.run(
            [sys.executable, "-m", "lens.chat_template"], cwd=home, timeout=PATIENCE, capture_output=True, text=True,
            encoding="utf-8", input=json.dumps([template, dict(tokens), asked]),
            env={**os.environ, "USE_TORCH": "0", "OPENBLAS_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"})
    except subprocess.TimeoutExpired as err:
        raise BadTemplate(f"running it takes more than {PATIENCE} s") from err
    if child.returncode < 0:
        raise BadTemplate(f"running it takes more than {SECONDS} s or {MEMORY >> 30} GB")
    if child.returncode:
        raise BadTemplate((child.stderr.strip().splitlines() or ["no reason given"])[-1][:160])
    return [text if text is not None else BadTemplate(why) for text, why in json.loads(child.stdout)]


def render(template: str, tokens: Mapping[str, str], conversation: Messages, start: bool) -> str | BadTemplate:
    """One conversation, as transformers' `apply_chat_template` makes it."""
    from transformers.utils.chat_template_utils import render_jinja_template

    given: Any = conversation
    named: dict[str, Any] = dict(tokens)
    try:
        made: Any = render_jinja_template([given], chat_template=template, add_generation_prompt=start, **named)
    except MemoryError:
        return BadTemplate(f"running it takes more than {MEMORY >> 30} GB")
    except Exception as err:  # noqa: BLE001 (a template may raise anything)
        return BadTemplate((str(err).strip() or type(err).__name__).splitlines()[0][:160])
    text = str(made[0][0])
    return text if len(text) <= LONGEST else BadTemplate(f"it makes {len(text):,} characters, at most {LONGEST:,}")


if __name__ == "__main__":
    limit(SECONDS, MEMORY)
    given_template, given_tokens, given_asked = json.loads(sys.stdin.read())
    found = [render(given_template, given_tokens, *one) for one in given_asked]
    print(json.dumps([[None, str(one)] if isinstance(one, BadTemplate) else [one, ""] for one in found]))
