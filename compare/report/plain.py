"""How well a model still predicts plain text: its loss on each sentence. Forgetting shows here first. Perplexity is
made of these losses in `statistics`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

LONGEST = 512  # tokens of a sentence that are read
ROWS_AT_ONCE = 8  # sentences in one forward
POSITIONS_AT_ONCE = 64  # whose logits exist at once


@dataclass(frozen=True)
class Losses:
    """One variant on all sentences: `nats`, summed over each sentence, and the `tokens` that were predicted."""

    nats: tuple[float, ...]
    tokens: tuple[int, ...]


@dataclass(frozen=True)
class Plain:
    """Plain text that nobody trained on: the file's name, its sentences."""

    name: str
    sentences: tuple[str, ...]

    @property
    def sha256(self) -> str:
        return hashlib.sha256("\n".join(self.sentences).encode("utf-8", "replace")).hexdigest()


def losses(engine, plain: Plain, variants: Sequence) -> list[Losses]:
    """Of every sentence under each variant. A sentence's first token is given, not predicted."""
    import torch

    rows = [engine.tokenizer.encode(s, add_special_tokens=False)[:LONGEST] for s in plain.sentences]
    rows = [ids for ids in rows if len(ids) > 1]
    per_variant = []
    for variant in variants:
        nats: list[float] = []
        for start in range(0, len(rows), ROWS_AT_ONCE):
            part = rows[start:start + ROWS_AT_ONCE]
            states = engine.states(part, [variant] * len(part))
            for i, ids in enumerate(part):
                target = torch.tensor(ids[1:], device=states.device)
                nats.append(loss(engine, states[i, :len(ids) - 1], target))
        per_variant.append(Losses(tuple(nats), tuple(len(ids) - 1 for ids in rows)))
    return per_variant


def loss(engine, states, target) -> float:
    """Summed loss in nats of states (tokens, hidden) that predict target (tokens,)."""
    total = 0.0
    for start in range(0, len(target), POSITIONS_AT_ONCE):
        part = slice(start, start + POSITIONS_AT_ONCE)
        log = engine.logits(states[part]).log_softmax(-1)
        total -= float(log.gather(-1, target[part, None]).double().sum())
    return total
