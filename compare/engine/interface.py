"""What travels between an engine and whoever asks it: variants, sampling, growing columns. No torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from compare.analysis.repetition import Loop, find_loop, seq_rep
from lens.chat import Form
from lens.errors import BadQuestion


@dataclass(frozen=True)
class Variant:
    """What a column shows: the adapter (None: base) at a strength, asked in a form, under a name."""

    name: str
    adapter: str | None = None
    strength: float = 0.0
    prompt: Form = "chat"

    @classmethod
    def of(cls, adapter: str, strength: float = 1.0) -> Variant:
        """An adapter at a strength, which its name tells unless it is 1."""
        return cls(adapter if strength == 1 else f"{adapter}@{strength:g}", adapter, float(strength))


BASE = Variant("base")
PLAIN = Variant("base, plain prompt", prompt="plain")  # what the base can do when asked its own way


@dataclass(frozen=True)
class Sampling:
    """How to choose tokens. Temperature 0 is greedy; then `top_p` and `seed` do nothing.

    `repetition_penalty` is 1 (off) unless asked for: it hides the loops that a base falls into.
    """

    max_new_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    repetition_penalty: float = 1.0
    stop_at_loop: bool = False

    def __post_init__(self) -> None:
        limits = {"max_new_tokens": (1, 4096), "temperature": (0, 10), "top_p": (0.01, 1), "seed": (0, 2**63 - 1),
                  "repetition_penalty": (0.1, 10)}
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise BadQuestion(f"{name} is {value}; allowed: {low} to {high}")

    @property
    def prefix_ids(self) -> tuple[int, ...]:
        """The ids that an answer is to begin with: none, unless it is a Continuation."""
        return ()

    @property
    def plain(self) -> bool:
        """Greedy and without a penalty: the largest logit wins."""
        return self.temperature == 0 and self.repetition_penalty == 1


@dataclass(frozen=True)
class Continuation(Sampling):
    """Of answers that begin with these ids, as if each column had chosen them itself.

    They count towards `max_new_tokens`, and the luck of their steps is spent: forced with its own ids, an answer
    goes on as it did.
    """

    prefix_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.prefix_ids) >= self.max_new_tokens:
            raise BadQuestion(f"the answer is to begin with {len(self.prefix_ids)} tokens; allowed: fewer than "
                              f"max_new_tokens, which is {self.max_new_tokens}")


@dataclass
class Column:
    """`finish_reason` is None while the answer grows; `seconds` of wall time since the question was put.

    `end_probability`: at each step, how likely `</s>` was, the last step's included; ids that were given had no step.
    """

    variant: Variant
    decode: Callable[[list[int]], str] = field(repr=False, default=lambda ids: "")
    token_ids: list[int] = field(default_factory=list)
    finish_reason: str | None = None
    seconds: float = 0.0
    end_probability: list[float] = field(default_factory=list)

    @property
    def text(self) -> str:
        """A token may end inside a UTF-8 character: what is not whole yet is not shown."""
        return self.decode(self.token_ids).rstrip("\ufffd")

    @property
    def loop(self) -> Loop | None:
        return find_loop(self.token_ids)

    def as_dict(self) -> dict:
        """The contract's fields of a column, and of one that was not asked in the chat format the form."""
        loop = self.loop
        return {"variant": self.variant.name, "adapter": self.variant.adapter, "strength": self.variant.strength,
                "text": self.text, "token_ids": self.token_ids, "finish_reason": self.finish_reason,
                "tokens": len(self.token_ids), "seconds": round(self.seconds, 3),
                "repetition": {"seq_rep_4": seq_rep(self.token_ids), "loop": loop and vars(loop)},
                "end_probability": [round(p, 6) for p in self.end_probability],
                **({"prompt": self.variant.prompt} if self.variant.prompt != "chat" else {})}


@dataclass(frozen=True)
class Grown:
    """What one column got in one step: a token (None at the end), P(`</s>`), and why it finished, if it did."""

    column: int
    token: int | None
    end_probability: float | None = None
    finish_reason: str | None = None


@dataclass(frozen=True)
class Load:
    """How much an engine has to do: columns that advance together, questions in line, columns there is room for.

    `thread`: its thread's state (`Owner.state`; `remote`: it is elsewhere); `restarts`: its deaths.
    """

    columns: int
    waiting: int
    room: int
    thread: str
    restarts: int = 0
