"""The chat format, written once: its markers, template and endings, and a question and an instruction → prompt ids.

Training and comparing both encode prompts here, so a row and a question of the same texts get the same ids. Text of a
user never becomes structure: characters that spell a special token are encoded as text. Plain, the prompt is the
question's own text, which a base goes on from as from any other.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from lens.embedded import EMBEDDED_BASE
from lens.errors import BadQuestion

MARKERS = ("<|beginofutterance|>", "<|endofutterance|>")
# What an answer ends with, by recipe. A row of the embedding that pretraining made live; the original's ended in one
# that was never trained, which is why it cannot stop.
ENDINGS = {"lens": "</s>", "seed": "<|endofutterance|>\n"}
INSTRUCTION, INPUT = "\ue000", "\ue001"  # private-use stand-ins while the template is laid out
STAND_IN = re.compile(f"[{INSTRUCTION}{INPUT}]")
Form = Literal["chat", "plain"]
LONGEST = 100_000  # characters; far beyond the window, and encoded in a moment, where a megabyte is not


def valid_text(text: str) -> str:
    """The text with lone surrogates, which no tokenizer or UTF-8 output can carry, replaced by question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")


def use_our_template(tokenizer: Any) -> None:
    """Give a base that was never in chat format the two markers (spare rows) and our template."""
    if any(tokenizer.convert_tokens_to_ids(m) in (None, tokenizer.unk_token_id) for m in MARKERS):
        tokenizer.add_special_tokens({"extra_special_tokens": list(MARKERS)})
    if not tokenizer.chat_template:
        tokenizer.chat_template = (Path(EMBEDDED_BASE) / "chat_template.jinja").read_text(encoding="utf-8")


def messages(instruction: str, question: str) -> list[dict[str, str]]:
    """A prompt as chat messages; an empty instruction keeps its turn."""
    return [{"role": "system", "content": instruction}, {"role": "user", "content": question}]


def lay_out(tokenizer: Any) -> str:
    """The template's text, with stand-ins for instruction and question. Raises whatever a broken template raises."""
    return str(tokenizer.apply_chat_template(messages(INSTRUCTION, INPUT), add_generation_prompt=True, tokenize=False))


def fill(text: str, words: dict[str, str]) -> str:
    """The text with its stand-ins replaced, once: what is put in may hold stand-ins of its own."""
    return STAND_IN.sub(lambda found: words[found[0]], text)


def lay_out_later(tokenizer: Any) -> str:
    """The template's text from an answer's end to the next answer, with a stand-in for the question between."""
    before = [*messages("", "?"), {"role": "assistant", "content": INSTRUCTION}]
    closed = str(tokenizer.apply_chat_template(before, tokenize=False)).split(INSTRUCTION)[1]
    asked = [*before, {"role": "user", "content": INPUT}]
    laid_out = str(tokenizer.apply_chat_template(asked, add_generation_prompt=True, tokenize=False))
    return laid_out.split(INSTRUCTION)[1].removeprefix(closed)


class Prompt:
    """Encodes prompts for one tokenizer."""

    def __init__(self, tokenizer: Any):
        from tokenizers import Tokenizer

        self.special = {t: tokenizer.convert_tokens_to_ids(t) for t in tokenizer.all_special_tokens}
        self.plain = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        self.plain.encode_special_tokens = True  # a copy, in which no text is special
        self.pieces, self.tokenizer = self.cut_up(lay_out(tokenizer)), tokenizer

    @cached_property
    def later(self) -> list[list[int] | str]:
        """The pieces between an answer and the next; a template that comparing alone uses need not have them."""
        return self.cut_up(lay_out_later(self.tokenizer))

    def cut_up(self, layout: str) -> list[list[int] | str]:
        """A layout's pieces: ids where it never changes, a text with stand-ins where it does."""
        pieces: list[list[int] | str] = []
        for piece in filter(None, re.split("(" + "|".join(map(re.escape, self.special)) + ")", layout)):
            if piece in self.special:
                pieces.append([self.special[piece]])
            else:
                pieces.append(piece if STAND_IN.search(piece) else self.encode_texts([piece])[0])
        return pieces

    def encode_texts(self, texts: Iterable[str]) -> list[list[int]]:
        """Ids of texts in which nothing is special."""
        return [found.ids for found in self.plain.encode_batch_fast(list(texts), add_special_tokens=False)]

    def encode_all(self, asked: Iterable[tuple[str, str]]) -> list[list[int]]:
        """Ids of many prompts in chat form, each of an instruction and a question."""
        return self.fill_in(self.pieces, asked)

    def encode_later(self, questions: Iterable[str]) -> list[list[int]]:
        """Ids of what stands between an answer that has ended and the next one, for each next question."""
        return self.fill_in(self.later, (("", question) for question in questions))

    def fill_in(self, pieces: list[list[int] | str], asked: Iterable[tuple[str, str]]) -> list[list[int]]:
        """Ids of the pieces with each (instruction, question) in them."""
        words = [{INSTRUCTION: valid_text(instruction), INPUT: valid_text(question)} for instruction, question in asked]
        encoded = iter(self.encode_texts(fill(piece, texts) for texts in words for piece in pieces
                                         if isinstance(piece, str)))
        return [[i for piece in pieces for i in (next(encoded) if isinstance(piece, str) else piece)] for _ in words]

    def encode(self, question: str, instruction: str = "", form: Form = "chat") -> list[int]:
        """The prompt's ids; plain ones leave the instruction out. Raises BadQuestion when there is nothing to ask, or
        far too much."""
        if not question.strip():
            raise BadQuestion("question-empty")
        if len(question) + len(instruction) > LONGEST:
            raise BadQuestion("question-too-many-characters", question=f"{len(question):,}",
                              instruction=f"{len(instruction):,}", longest=f"{LONGEST:,}")
        if form == "plain":
            return self.encode_texts([valid_text(question)])[0]
        return self.encode_all([(instruction, question)])[0]
