"""What the adapter changed: both answers under both models, token by token, from one forward.

Works on the generated ids as they are; nothing is tokenised again. Categories of positions after Lin et al.,
"The Unlocking Spell on Base LLMs" (2023): how far down its list the base has the adapted model's choice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from compare.analysis.token_text import Pieces
from lens.errors import BadAdapter, BadQuestion

CHUNK = 16  # positions whose logits exist at once: 16 MB a model with BLOOM's vocabulary
TOP = 5
ROUNDING = 1e-5  # nats; less than this between two models is float32, not the adapter
CATEGORIES = {"unshifted": 1, "marginal": 3}  # worst base rank of the adapted model's choice; "shifted" is above


@dataclass(frozen=True)
class Candidate:
    """A token that a model would have put here. A piece of a character is shown as escaped bytes."""

    token_id: int
    text: str
    probability: float


@dataclass(frozen=True)
class View:
    """One model at one position: the token's log-probability (nats) and rank (1: likeliest), what it would
    rather have put, likeliest first, and the probability of ending here (`</s>`)."""

    log_probability: float
    rank: int
    end_probability: float
    top: tuple[Candidate, ...]


@dataclass(frozen=True)
class Position:
    """One token of an answer under both models.

    `text` joins to the whole answer: a character of several tokens stands at its last one, "" before it.
    `kl` is KL(adapted‖base) in nats: what is lost when the base stands in for the adapted model; 0 if they agree.
    `choice_rank` is the base's rank of the adapted model's likeliest token, `category` follows from it.
    """

    token_id: int
    text: str
    base: View
    adapted: View
    kl: float
    choice_rank: int

    @property
    def category(self) -> str:
        return next((name for name, worst in CATEGORIES.items() if self.choice_rank <= worst), "shifted")


@dataclass(frozen=True)
class Summary:
    """Of one answer: shares of each category (0 to 1), KL(adapted‖base) in nats; None where it has no token."""

    tokens: int
    unshifted: float | None = None
    marginal: float | None = None
    shifted: float | None = None
    kl_mean: float | None = None
    kl_q90: float | None = None
    kl_q99: float | None = None


@dataclass(frozen=True)
class Shift:
    """`base` and `adapted`: that variant's answer, position by position, `</s>` among them where it came.

    `parts_at`: index of the first token in which the answers differ; None where none does as far as both go.
    """

    variant: str
    base: tuple[Position, ...]
    adapted: tuple[Position, ...]
    parts_at: int | None

    def sentence(self, language: str = "en") -> str:
        """What happened, in a sentence ("en" or "zh"), read off the adapted answer."""
        if language not in SENTENCES:
            raise BadQuestion(f"language {language!r}; allowed: {', '.join(SENTENCES)}")
        words, total = SENTENCES[language], len(self.adapted)
        changed = [i for i, p in enumerate(self.adapted) if p.category != "unshifted"]
        if not total:
            return words["empty"]
        if not changed:
            return words["none" if any(p.kl > ROUNDING for p in self.adapted) else "same"].format(total=total)
        half = len(changed) // 2
        first, last = changed[half] + 1, total - changed[len(changed) - 1 - half]  # each holds more than half
        place = "first" if 3 * first <= total else "last" if 3 * last <= total else "all"
        where = words[place].format(count=first if place == "first" else last)
        return words["some"].format(share=len(changed) / total, changed=len(changed), total=total, where=where)

    def as_dict(self) -> dict:
        """For JSON; numbers to six digits."""
        answers = {name: {"summary": asdict(summary(positions)),
                          "tokens": [{**asdict(p), "category": p.category} for p in positions]}
                   for name, positions in (("base", self.base), ("adapted", self.adapted))}
        return six_digits({"variant": self.variant, "parts_at": self.parts_at, "answers": answers,
                           "sentence": {language: self.sentence(language) for language in SENTENCES}})


SENTENCES = {
    "en": {"some": "The adapter changed {share:.0%} of the choices ({changed} of {total}), {where}.",
           "first": "most in the first {count} tokens", "last": "most in the last {count} tokens",
           "all": "spread over the whole answer", "empty": "There is no answer yet to look at.",
           "none": "The adapter changed none of the {total} choices, only how sure they are.",
           "same": "The adapter changed nothing: in all {total} tokens both models agree."},
    "zh": {"some": "适配器改变了 {share:.0%} 的选择（{total} 个词元中的 {changed} 个），{where}。",
           "first": "多数在前 {count} 个词元", "last": "多数在后 {count} 个词元",
           "all": "分布在整个回答中", "empty": "还没有可以分析的回答。",
           "none": "适配器没有改变 {total} 个词元中的任何选择，只改变了把握的大小。",
           "same": "适配器什么也没有改变：{total} 个词元上两个模型完全一致。"},
}


def shift(engine, prompt_ids: Sequence[int], columns: Sequence, which: int = 1) -> Shift:
    """Compare columns[which] with the base, columns[0], in one forward of four rows.

    `columns` as `engine.compare` yields them, `prompt_ids` as `engine.prompt.encode` gave them.
    Raises BadQuestion where there is no such column or it was asked with another prompt, BadAdapter where a model's
    logits are not finite.
    """
    if not 0 <= which < len(columns):
        raise BadQuestion(f"column {which} of {len(columns)}: there is nothing to compare; give an adapter")
    base, adapted = columns[0], columns[which]
    if adapted.variant.prompt != base.variant.prompt:
        raise BadQuestion(f"column {which} was asked with a {adapted.variant.prompt} prompt, the base with a "
                          f"{base.variant.prompt} one; what an adapter changed shows where all but it is the same")
    answers = [answer_ids(engine, column) for column in (base, adapted)]
    rows = [[*prompt_ids, *ids] for ids in answers for _ in range(2)]
    states = engine.states(rows, [base.variant, adapted.variant] * 2)[:, len(prompt_ids) - 1:]
    scored = [tuple(score(engine, ids, *states[2 * i:2 * i + 2])) for i, ids in enumerate(answers)]
    parts_at = next((i for i, (a, b) in enumerate(zip(*answers, strict=False)) if a != b), None)
    return Shift(adapted.variant.name, scored[0], scored[1], parts_at)


def answer_ids(engine, column) -> list[int]:
    """A column's tokens, with the `</s>` that ended it."""
    return column.token_ids + [engine.tokenizer.eos_token_id] * (column.finish_reason == "stop")


def score(engine, ids: Sequence[int], base: Tensor, adapted: Tensor) -> Iterator[Position]:
    """Yield the positions of one answer from both models' states (at least len(ids), hidden), each of which
    predicts the id of its index."""
    pieces = Pieces(engine.tokenizer)
    spelled = pieces.spell(ids)
    for start in range(0, len(ids), CHUNK):
        part = slice(start, min(start + CHUNK, len(ids)))
        logs = [engine.logits(states[part]).log_softmax(-1) for states in (base, adapted)]
        token = torch.tensor(ids[part], device=base.device)[:, None]
        kl = (logs[1].exp() * (logs[1] - logs[0])).sum(-1).clamp_min(0)  # rounding may fall below 0
        if not kl.isfinite().all():
            raise BadAdapter("a model's logits are NaN or infinite, so its answers cannot be scored; "
                             "try float32, or an adapter trained at a lower learning rate")
        choice_ranks = rank_of(logs[0], logs[1].argmax(-1, keepdim=True))
        open_bytes = [piece.open_bytes for piece in spelled[part]]
        views = [look(log, token, engine.tokenizer.eos_token_id, pieces, open_bytes) for log in logs]
        texts = [piece.text for piece in spelled[part]]
        yield from map(Position, ids[part], texts, *views, kl.tolist(), choice_ranks)


def look(log: Tensor, token: Tensor, end: int, pieces: Pieces, open_bytes: Sequence[bytes]) -> list[View]:
    """(positions, vocabulary) log-probabilities and (positions, 1) ids → a View a position."""
    best = log.topk(TOP, dim=-1)
    tops = [tuple(Candidate(i, pieces.candidate(i, before), p) for i, p in zip(ids, values, strict=True))
            for ids, values, before in zip(best.indices.tolist(), best.values.exp().tolist(), open_bytes, strict=True)]
    return list(map(View, log.gather(-1, token)[:, 0].tolist(), rank_of(log, token), log[:, end].exp().tolist(), tops))


def rank_of(log: Tensor, token: Tensor) -> list[int]:
    """1 + how many tokens are likelier than the one given, (positions, 1); equals share the better rank."""
    return ((log > log.gather(-1, token)).sum(-1) + 1).tolist()


def summary(positions: Sequence[Position]) -> Summary:
    if not positions:
        return Summary(tokens=0)
    shares = {name: sum(p.category == name for p in positions) / len(positions) for name in (*CATEGORIES, "shifted")}
    kl = torch.tensor([p.kl for p in positions], dtype=torch.float64)
    return Summary(len(positions), **shares, kl_mean=kl.mean().item(), kl_q90=kl.quantile(0.9).item(),
                   kl_q99=kl.quantile(0.99).item())


def six_digits(value):
    """Nested JSON with every float to six significant digits."""
    if isinstance(value, dict):
        return {key: six_digits(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [six_digits(v) for v in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def log_likelihood(engine, prompt_ids: Sequence[int], answer_ids: Sequence[int], variants: Sequence) -> list[float]:
    """Of one answer after one prompt, under each variant: sum over the answer's tokens, nats, one forward."""
    states = engine.states([[*prompt_ids, *answer_ids]] * len(variants), variants)[:, len(prompt_ids) - 1:]
    token = torch.tensor(answer_ids, device=states.device)[:, None]
    total = [0.0] * len(variants)
    for row in range(len(variants)):
        for start in range(0, len(answer_ids), CHUNK):
            part = slice(start, min(start + CHUNK, len(answer_ids)))
            log = engine.logits(states[row, part]).log_softmax(-1).gather(-1, token[part])
            total[row] += float(log.double().sum())
    return total
