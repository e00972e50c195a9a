"""The chat format: its markers and template, and a question and an instruction → the prompt's ids.

Plain, the prompt is the question's own text, which a base goes on from as from any other.

Text of a user never becomes structure: characters that spell a special token are encoded as text.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from lens.embedded import EMBEDDED_BASE
from lens.errors import BadQuestion

MARKERS = ("<|beginofutterance|>", "<|endofutterance|>")
INSTRUCTION, INPUT = "\ue000", "\ue001"  # private-use stand-ins while the template is laid out
Form = Literal["chat", "plain"]
LONGEST = 100_000  # characters; far beyond the window, and encoded in a moment, where a megabyte is not


def valid_text(text: str) -> str:
    """The text with lone surrogates, which no tokenizer or UTF-8 output can carry, replaced by question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")


def use_our_template(tokenizer) -> None:
    """Give a base that was never in chat format the two markers (spare rows) and our template."""
    if any(tokenizer.convert_tokens_to_ids(m) in (None, tokenizer.unk_token_id) for m in MARKERS):
        tokenizer.add_special_tokens({"extra_special_tokens": list(MARKERS)})
    if not tokenizer.chat_template:
        tokenizer.chat_template = (Path(EMBEDDED_BASE) / "chat_template.jinja").read_text(encoding="utf-8")


def messages(instruction: str, question: str) -> list[dict[str, str]]:
    """A prompt as chat messages; an empty instruction keeps its turn."""
    return [{"role": "system", "content": instruction}, {"role": "user", "content": question}]


class Prompt:
    """Encodes prompts for one tokenizer."""

    def __init__(self, tokenizer):
        from tokenizers import Tokenizer

        self.special = {t: tokenizer.convert_tokens_to_ids(t) for t in tokenizer.all_special_tokens}
        self.plain = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        self.plain.encode_special_tokens = True  # a copy, in which no text is special
        layout = tokenizer.apply_chat_template(messages(INSTRUCTION, INPUT), add_generation_prompt=True, tokenize=False)
        self.segments = [s for s in re.split("(" + "|".join(map(re.escape, self.special)) + ")", layout) if s]

    def encode(self, question: str, instruction: str = "", form: Form = "chat") -> list[int]:
        """The prompt's ids; plain ones leave the instruction out. Raises BadQuestion when there is nothing to ask, or
        far too much."""
        if not question.strip():
            raise BadQuestion("the question is empty; type one, such as 哈尔滨工业大学的校训是什么？")
        if len(question) + len(instruction) > LONGEST:
            raise BadQuestion(f"the question has {len(question):,} characters and the instruction "
                              f"{len(instruction):,}; together at most {LONGEST:,} are allowed; shorten them")
        if form == "plain":
            return self.plain.encode(valid_text(question), add_special_tokens=False).ids
        texts = {INSTRUCTION: valid_text(instruction), INPUT: valid_text(question)}
        ids: list[int] = []
        for segment in self.segments:
            if segment in self.special:
                ids.append(self.special[segment])
            else:
                parts = re.split(f"([{INSTRUCTION}{INPUT}])", segment)
                ids += self.plain.encode("".join(texts.get(p, p) for p in parts), add_special_tokens=False).ids
        return ids
