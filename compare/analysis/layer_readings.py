"""Both models read layer by layer, at the tokens of a given answer: see `layer_lens.py`.

The hidden states of a few positions at once, the logits of a few layers at once: neither grows with the answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor

from compare.analysis.layer_lens import AfterLayer, ByLayer, Through, TokenByLayer
from compare.analysis.token_scores import CHUNK, TOP, rank_of
from compare.analysis.token_shift import Candidate
from compare.analysis.token_text import Tokens
from compare.engine.question import BASE, GivenAnswer, Variant
from lens.errors import BadAdapter

TINY = torch.finfo(torch.float32).tiny


class Model(Protocol):
    def layer_states(self, rows: Sequence[Sequence[int]], variants: Sequence[Variant]) -> Iterator[Tensor]:
        """(layers, rows, positions, hidden): the states after each layer, a few positions at a time, in order."""

    def layer_logits(self, states: Tensor) -> Tensor:
        """(…, hidden) states after a layer → (…, vocabulary) in float32, by the final norm and the head."""


def by_layer(model: Model, tokens: Tokens, given: GivenAnswer, positions: Sequence[int]) -> ByLayer:
    """`positions`: which of the answer's tokens are looked at, from 0. Raises BadAdapter."""
    row, first = [*given.prompt_ids, *given.answer_ids], len(given.prompt_ids) - 1
    kept: dict[int, Tensor] = {}  # position of the answer → (layers, base and adapted, hidden)
    changes: list[Tensor] = []
    at = 0
    for states in model.layer_states([row, row], [BASE, given.variant]):
        changes.append(relative_change(states))
        end = at + states.shape[2]
        kept |= {i: states[:, :, first + i - at].clone() for i in positions if at <= first + i < end}
        at = end
    changed = torch.cat(changes, 1)
    if not changed.isfinite().all():
        raise BadAdapter("logits-not-finite")
    spelled = tokens.spell(given.answer_ids)
    found = (TokenByLayer(i, given.answer_ids[i], spelled[i].text,
                          *(through(model, tokens, states, spelled[i].open_bytes) for states in kept[i].unbind(1)))
             for i in positions)
    return ByLayer(given.variant.name, len(given.prompt_ids), tuple(found), tuple(map(tuple, changed.tolist())))


def relative_change(states: Tensor) -> Tensor:
    """(layers, base and adapted, positions, hidden) → ‖adapted − base‖ / ‖base‖, (layers, positions)."""
    base, adapted = states.float().unbind(1)
    return (adapted - base).norm(dim=-1) / base.norm(dim=-1).clamp_min(TINY)


def through(model: Model, tokens: Tokens, states: Tensor, open_bytes: bytes) -> Through:
    """One model's (layers, hidden) states where it chooses a token; `open_bytes`: of a character begun before it."""
    choice = model.layer_logits(states[-1:]).argmax(-1, keepdim=True)
    found = []
    for start in range(0, len(states), CHUNK):
        log = model.layer_logits(states[start:start + CHUNK]).log_softmax(-1)
        token, best = choice.expand(len(log), 1), log.topk(TOP, dim=-1)
        chances: list[float] = log.gather(-1, token)[:, 0].exp().tolist()
        tops = ([Candidate(i, tokens.candidate(i, open_bytes), p) for i, p in zip(ids, values, strict=True)]
                for ids, values in zip(best.indices.tolist(), best.values.exp().tolist(), strict=True))
        found += [AfterLayer(tuple(top), rank, chance)
                  for top, rank, chance in zip(tops, rank_of(log, token), chances, strict=True)]
    return Through(tuple(found))
