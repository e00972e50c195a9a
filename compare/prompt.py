"""A question and an instruction → the prompt's ids, with the chat template that travels with the tokenizer or, plain,
the question's own text, which a base goes on from as from any other.

Text of a user never becomes structure: characters that spell a special token are encoded as text.
"""

from __future__ import annotations

import re
from typing import Literal

from tokenizers import Tokenizer

from compare.errors import BadQuestion
from compare.questions import valid_text

INSTRUCTION, INPUT = "\ue000", "\ue001"  # private-use stand-ins while the template is laid out
Form = Literal["chat", "plain"]
LONGEST = 100_000  # characters; far beyond the window, and encoded in a moment, where a megabyte is not


class Prompt:
    """Encodes prompts for one tokenizer."""

    def __init__(self, tokenizer):
        self.special = {t: tokenizer.convert_tokens_to_ids(t) for t in tokenizer.all_special_tokens}
        self.plain = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        self.plain.encode_special_tokens = True  # a copy, in which no text is special
        turns = [{"role": "system", "content": INSTRUCTION}, {"role": "user", "content": INPUT}]
        layout = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
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
