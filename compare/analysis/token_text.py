"""Text and tokens: a prompt's ids, an answer's text, and the text of tokens one by one. No torch.

A token of a byte-level BPE (BLOOM's kind) may hold only part of a character; the byte alphabet is GPT-2's, as
transformers has it. In SentencePiece's way (Llama 2, Gemma) a token is text with ▁ for a space, or one byte, `<0xE5>`.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from lens.chat import Form, Prompt, end_id

BYTE = re.compile(r"<0x([0-9A-F]{2})>")


@dataclass(frozen=True)
class Piece:
    """What a token adds to a text: the characters it completes; `open_bytes`: of one begun before it."""

    text: str
    open_bytes: bytes


class Tokens:
    """Text and token ids of one tokenizer: prompts, answers, and a token's own text."""

    def __init__(self, tokenizer: Any):
        from transformers.convert_slow_tokenizer import bytes_to_unicode

        self.tokenizer, self.special = tokenizer, set(tokenizer.all_special_ids)
        self.end_id = end_id(tokenizer)
        self.byte_level = "ByteLevel" in str(tokenizer.backend_tokenizer.decoder)
        self.byte_of = {shown: byte for byte, shown in bytes_to_unicode().items()}

    @cached_property
    def prompt(self) -> Prompt:
        return Prompt(self.tokenizer)

    def prompt_ids(self, question: str, instruction: str = "", form: Form = "chat") -> list[int]:
        """The ids that a question is asked with. Raises BadQuestion where there is nothing to ask."""
        return self.prompt.encode(question, instruction, form)

    def encode(self, text: str) -> list[int]:
        """A text by itself, such as an answer; nothing is added."""
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False)
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of an answer, without special tokens."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    def bytes_of(self, token_id: int) -> bytes:
        token = self.tokenizer.convert_ids_to_tokens(token_id)
        if token is None:  # a spare row of the vocabulary, which no token uses
            return f"<{token_id}>".encode()
        if token_id in self.special:
            return str(token).encode()
        if not self.byte_level:
            byte = BYTE.fullmatch(token)
            return bytes.fromhex(byte[1]) if byte else token.replace("▁", " ").encode()
        if not all(c in self.byte_of for c in token):
            return token.encode()
        return bytes(self.byte_of[c] for c in token)

    def spell(self, ids: Sequence[int]) -> list[Piece]:
        """A piece a token; their texts join to the whole. A character stands at the last of its tokens;
        one that is never finished becomes U+FFFD there."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        found = []
        for i, token_id in enumerate(ids):
            open_bytes = decoder.getstate()[0]
            found.append(Piece(decoder.decode(self.bytes_of(token_id), final=i == len(ids) - 1), open_bytes))
        return found

    def candidate(self, token_id: int, open_bytes: bytes) -> str:
        """How a token would read after these bytes; what is no whole character is escaped, as in `\\xe5`."""
        return (open_bytes + self.bytes_of(token_id)).decode("utf-8", "backslashreplace")
