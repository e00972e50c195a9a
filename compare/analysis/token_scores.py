"""Given answers under models: every token's probability, rank and rivals, and a whole answer's likelihood.

Works on hidden states, and makes logits of few positions at once: the vocabulary is wide.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor

from compare.analysis.token_shift import Candidate, Position, View
from compare.analysis.token_text import Tokens
from compare.engine.interface import GivenAnswer, Variant
from lens.errors import BadAdapter

CHUNK = 16  # positions whose logits exist at once: 16 MB a model with BLOOM's vocabulary
TOP = 5


class Model(Protocol):
    def states(self, rows: Sequence[Sequence[int]], variants: Sequence[Variant]) -> Tensor:
        """(rows, longest, hidden) last hidden states of row i under variants[i]."""

    def logits(self, states: Tensor) -> Tensor:
        """(…, hidden) → (…, vocabulary) in float32."""


def score(model: Model, tokens: Tokens, prompt_ids: Sequence[int], answers: Sequence[Sequence[int]], base: Variant,
          adapted: Variant) -> list[tuple[Position, ...]]:
    """Each answer's positions under both variants, from one forward. Raises BadAdapter."""
    rows = [[*prompt_ids, *ids] for ids in answers for _ in range(2)]
    states = model.states(rows, [base, adapted] * len(answers))[:, len(prompt_ids) - 1:]
    return [tuple(positions(model, tokens, ids, *states[2 * i:2 * i + 2])) for i, ids in enumerate(answers)]


def positions(model: Model, tokens: Tokens, ids: Sequence[int], base: Tensor, adapted: Tensor) -> Iterator[Position]:
    """Yield the positions of one answer from both models' states (at least len(ids), hidden), each of which
    predicts the id of its index."""
    spelled = tokens.spell(ids)
    for start in range(0, len(ids), CHUNK):
        part = slice(start, min(start + CHUNK, len(ids)))
        logs = [model.logits(states[part]).log_softmax(-1) for states in (base, adapted)]
        token = torch.tensor(ids[part], device=base.device)[:, None]
        kl = (logs[1].exp() * (logs[1] - logs[0])).sum(-1).clamp_min(0)  # rounding may fall below 0
        if not kl.isfinite().all():
            raise BadAdapter("logits-not-finite")
        choice_ranks = rank_of(logs[0], logs[1].argmax(-1, keepdim=True))
        open_bytes = [piece.open_bytes for piece in spelled[part]]
        views = [look(log, token, tokens, open_bytes) for log in logs]
        texts = [piece.text for piece in spelled[part]]
        yield from map(Position, ids[part], texts, *views, kl.tolist(), choice_ranks)


def look(log: Tensor, token: Tensor, tokens: Tokens, open_bytes: Sequence[bytes]) -> list[View]:
    """(positions, vocabulary) log-probabilities and (positions, 1) ids → a View a position."""
    best = log.topk(TOP, dim=-1)
    tops = [tuple(Candidate(i, tokens.candidate(i, before), p) for i, p in zip(ids, values, strict=True))
            for ids, values, before in zip(best.indices.tolist(), best.values.exp().tolist(), open_bytes, strict=True)]
    ends = log[:, tokens.end_id].exp().tolist()
    return list(map(View, log.gather(-1, token)[:, 0].tolist(), rank_of(log, token), ends, tops))


def rank_of(log: Tensor, token: Tensor) -> list[int]:
    """1 + how many tokens are likelier than the one given, (positions, 1); equals share the better rank."""
    ranks: list[int] = ((log > log.gather(-1, token)).sum(-1) + 1).tolist()
    return ranks


def log_likelihoods(model: Model, given: Sequence[GivenAnswer]) -> list[float]:
    """Of each answer after its prompt under its variant: sum over the answer's tokens, nats, one forward."""
    states = model.states([[*one.prompt_ids, *one.answer_ids] for one in given], [one.variant for one in given])
    totals = []
    for one, row in zip(given, states, strict=True):
        first, total = len(one.prompt_ids) - 1, 0.0
        for start in range(0, len(one.answer_ids), CHUNK):
            part = one.answer_ids[start:start + CHUNK]
            log = model.logits(row[first + start:first + start + len(part)]).log_softmax(-1)
            total += float(log.gather(-1, torch.tensor(part, device=row.device)[:, None]).double().sum())
        totals.append(total)
    return totals
