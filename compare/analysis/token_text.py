"""The text of byte-level tokens (BLOOM's kind of BPE), one by one. A token may hold only part of a character. The byte
alphabet is GPT-2's, as transformers has it.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Piece:
    """What a token adds to a text: the characters it completes; `open_bytes`: of one begun before it."""

    text: str
    open_bytes: bytes


class Pieces:
    def __init__(self, tokenizer):
        from transformers.convert_slow_tokenizer import bytes_to_unicode

        self.tokenizer, self.special = tokenizer, set(tokenizer.all_special_ids)
        self.byte_of = {shown: byte for byte, shown in bytes_to_unicode().items()}

    def bytes_of(self, token_id: int) -> bytes:
        token = self.tokenizer.convert_ids_to_tokens(token_id)
        if token is None:  # a spare row of the vocabulary, which no token uses
            return f"<{token_id}>".encode()
        if token_id in self.special or not all(c in self.byte_of for c in token):
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
