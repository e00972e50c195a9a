"""The chat format, written once: its markers, template and endings, and a question and an instruction → prompt ids.

A base with a chat template of its own is asked by that, any other by ours. Training and comparing both encode prompts
here, so a row and a question of the same texts get the same ids. Text of a user never becomes structure: characters
that spell a special token are encoded as text. Plain, the prompt is the question's own text, which a base goes on from
as from any other.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from typing import Any, Literal

from lens.chat_template import (
    BOS,
    INPUT,
    INSTRUCTION,
    MARKERS,
    BadTemplate,
    is_ours,
    layout_of,
    our_template,
    special_tokens,
)
from lens.errors import BadBase, BadQuestion

# What an answer ends with, by recipe. A row of the embedding that pretraining made live; the original's ended in one
# that was never trained, which is why it cannot stop.
ENDINGS = {"lens": "</s>", "seed": "<|endofutterance|>\n"}
STAND_IN = re.compile(f"[{INSTRUCTION}{INPUT}]")
Form = Literal["chat", "plain"]
LONGEST = 100_000  # characters; far beyond the window, and encoded in a moment, where a megabyte is not


def valid_text(text: str) -> str:
    """The text with lone surrogates, which no tokenizer or UTF-8 output can carry, replaced by question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")


def use_template(tokenizer: Any, rows: int, template: str = "") -> None:
    """Have a base asked by `template`, else by its own, else by ours; for ours it gets the two markers where its
    embedding of so many `rows` has two to spare, and they are ordinary text where not."""
    own = tokenizer.chat_template
    tokenizer.chat_template = template or (own.get("default") if isinstance(own, dict) else own)
    if not tokenizer.chat_template:
        ids = tokenizer.encode("a")
        tokenizer.chat_template = BOS * (ids[0] == tokenizer.bos_token_id and len(ids) > 1) + our_template()
    missing = any(tokenizer.convert_tokens_to_ids(m) in (None, tokenizer.unk_token_id) for m in MARKERS)
    if missing and is_ours(tokenizer.chat_template) and len(tokenizer) + len(MARKERS) <= rows:
        tokenizer.add_special_tokens({"extra_special_tokens": list(MARKERS)})


def end_id(tokenizer: Any) -> int:
    """The token that an answer is taught to end with: its template's end of turn, else the tokenizer's own end."""
    turn = tokenizer.convert_tokens_to_ids(layout_of(tokenizer).ending or None)
    found: int = turn if isinstance(turn, int) else tokenizer.eos_token_id
    return found


def fill(text: str, words: dict[str, str]) -> str:
    """The text with its stand-ins replaced, once: what is put in may hold stand-ins of its own."""
    return STAND_IN.sub(lambda found: words[found[0]], text)


class Prompt:
    """Encodes prompts for one tokenizer. Raises BadTemplate where its chat template cannot be used.

    In a copy of the tokenizer nothing is special; the structure of a prompt is put in by names that nobody can guess,
    and everything around it, such as the space that some tokenizers write before a text, stays as in one text.
    """

    def __init__(self, tokenizer: Any, limits: bool = True):
        from tokenizers import AddedToken, Tokenizer

        self.layout, special = layout_of(tokenizer, limits), special_tokens(tokenizer)
        self.special = {text: tokenizer.convert_tokens_to_ids(text) for text in special}
        self.plain = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        self.plain.no_padding()
        self.plain.no_truncation()
        self.plain.encode_special_tokens = True
        nonce = secrets.token_hex(8)
        self.names = {text: f"\ue002{nonce}{number}\ue003" for number, text in enumerate(special)}
        self.anchor = f"\ue002{nonce}\ue003"  # before a text that goes on from another
        self.plain.add_tokens([AddedToken(self.anchor, normalized=False)] + [
            AddedToken(self.names[text], normalized=False, lstrip=token.lstrip, rstrip=token.rstrip)
            for text, token in special.items()])
        self.ids = {self.plain.token_to_id(name): self.special[text] for text, name in self.names.items()}
        self.found = re.compile("|".join(map(re.escape, sorted(special, key=len, reverse=True))) or "(?!)")

    def named(self, layout: str) -> str:
        """A layout whose special tokens have the copy's names."""
        return self.found.sub(lambda found: self.names[found[0]], layout)

    def encode_layouts(self, texts: Iterable[str]) -> list[list[int]]:
        """Ids of filled layouts."""
        encoded = self.plain.encode_batch_fast(list(texts), add_special_tokens=False)
        return [[self.ids.get(number, number) for number in one.ids] for one in encoded]

    def encode_texts(self, texts: Iterable[str]) -> list[list[int]]:
        """Ids of texts in which nothing is special and which go on from others, as answers do."""
        encoded = self.plain.encode_batch_fast([self.anchor + text for text in texts], add_special_tokens=False)
        return [one.ids[1:] for one in encoded]

    def encode_all(self, asked: Iterable[tuple[str, str]]) -> list[list[int]]:
        """Ids of many prompts in chat form, each of an instruction and a question."""
        first, bare = self.named(self.layout.first), self.named(self.layout.bare)
        return self.encode_layouts(fill(first if instruction else bare, self.words(instruction, question))
                                   for instruction, question in asked)

    def encode_later(self, questions: Iterable[str]) -> list[list[int]]:
        """Ids of what stands between an answer that has ended and the next one, for each next question. Raises BadBase
        where the template has no such turn."""
        found: list[list[int]] = []
        for question in questions:
            if isinstance(self.layout.later, BadTemplate):
                raise BadBase("template-one-question", reason=self.layout.later)
            later = fill(self.named(self.layout.later), self.words("", question))
            found.append(self.encode_layouts([self.anchor + later])[0][1:])
        return found

    def words(self, instruction: str, question: str) -> dict[str, str]:
        """What stands in for the stand-ins, as the template would write it."""
        said = valid_text(instruction), valid_text(question)
        if self.layout.trims:
            said = said[0].strip(), said[1].strip()
        return {INSTRUCTION: said[0], INPUT: said[1]}

    def encode(self, question: str, instruction: str = "", form: Form = "chat") -> list[int]:
        """The prompt's ids; plain ones leave the instruction out. Raises BadQuestion when there is nothing to ask, or
        far too much."""
        if not question.strip():
            raise BadQuestion("question-empty")
        if len(question) + len(instruction) > LONGEST:
            raise BadQuestion("question-too-many-characters", question=f"{len(question):,}",
                              instruction=f"{len(instruction):,}", longest=f"{LONGEST:,}")
        if form == "plain":
            ids: list[int] = self.plain.encode(valid_text(question)).ids
            return ids
        return self.encode_all([(instruction, question)])[0]
