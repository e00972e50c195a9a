"""How big a model is, and what LoRA adds to it: counts and memory worked out from the shape alone.

Pure arithmetic; nothing here is measured, and activations, logits and the cache are not counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from compare.engine.interface import Facts
from lens.adapter.fit import LINEAR_LAYERS
from lens.base.linear_layers import LinearKind

# Each of a BLOOM's linear layers: (input, output) width, in multiples of the hidden size.
WIDTHS = dict(zip(LINEAR_LAYERS, ((1, 3), (1, 1), (1, 4), (4, 1)), strict=True))
QUERY_KEY_VALUE, ATTENTION = LINEAR_LAYERS[:1], LINEAR_LAYERS[:2]
RANK = 8  # of the table: the original experiment's

HALF = 2  # bytes of a parameter in bfloat16 or float16
FULL = 4  # bytes of a parameter in float32, PEFT's dtype for the adapter it trains and saves
# Bytes of a parameter that Adam trains: weight 4, gradient 4, two moments 4 each. The same 16 come out of mixed
# precision (2 + 2 + 12). Source: Rajbhandari et al., "ZeRO: Memory Optimizations Toward Training Trillion
# Parameter Models" (2019).
TRAINED = 16


@dataclass(frozen=True)
class Shape:
    """A model's name and widths. `usual`: what LoRA is on where nothing else is said; `counted` and `layers` are of one
    that is no BLOOM: a BLOOM's parameters and linear layers follow from its widths. Its embedding is its lm_head."""

    name: str
    hidden_size: int
    n_layer: int
    vocab_size: int = 250_880
    usual: tuple[str, ...] = QUERY_KEY_VALUE
    counted: int = 0
    layers: Mapping[str, LinearKind] = field(default_factory=dict, compare=False)

    @classmethod
    def of(cls, facts: Facts) -> Shape:
        """The loaded model's."""
        sizes, names = facts.shape, tuple(facts.linears)
        widths = facts.base_name, sizes.hidden_size, sizes.n_layer, sizes.vocab_size
        if not names or facts.family == "bloom":
            return cls(*widths)
        attention = tuple(name for name, kind in facts.linears.items() if kind.attention)
        return cls(*widths, attention or names, facts.parameters, facts.linears)

    @property
    def is_bloom(self) -> bool:
        return not self.layers

    @property
    def parameters(self) -> int:
        """Embedding, each layer's four linear layers, biases and two norms, and the two norms outside."""
        h = self.hidden_size
        return self.counted or self.vocab_size * h + self.n_layer * (12 * h * h + 13 * h) + 4 * h

    @property
    def linears(self) -> Mapping[str, LinearKind]:
        """By short name, in the order of a block."""
        h = self.hidden_size
        return self.layers or {name: LinearKind(wide * h, tall * h, (wide + tall) * h * self.n_layer,
                                                name in ATTENTION) for name, (wide, tall) in WIDTHS.items()}

    def lora(self, r: int = RANK, modules: Iterable[str] | None = None) -> int:
        """Parameters of A (r × in) and B (out × r) in every layer. Raises KeyError for an unknown module."""
        return r * sum(self.linears[name].widths for name in (self.usual if modules is None else modules))


@dataclass(frozen=True)
class Memory:
    """Bytes that weights, gradients and optimizer take, for one shape and one adapter."""

    train_all: int  # every parameter trained with Adam
    train_lora: int  # the base frozen in half precision, the adapter trained with Adam
    serve_one: int  # one base with the adapter beside it, in half precision
    serve_two: int  # a base and a merged model side by side, in half precision


def share(trainable: int, base: int) -> float:
    """Trainable over all parameters, the adapter's own included; 0 to 1, as PEFT prints it."""
    return trainable / (base + trainable)


def memory(base: int, lora: int) -> Memory:
    """From the parameter counts of a base and of its adapter."""
    return Memory(train_all=TRAINED * base, train_lora=HALF * base + TRAINED * lora,
                  serve_one=HALF * (base + lora), serve_two=HALF * 2 * base)


def human(size: float) -> str:
    """Bytes in decimal units with three digits: 786432 → '786 kB'."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.5:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"


# Source of the widths: the config.json of each model on the Hugging Face hub.
EMBEDDED = Shape("embedded", 256, 6, 8064)
SIZES = (EMBEDDED, Shape("bloom-560m", 1024, 24), Shape("bloom-1b1", 1536, 24), Shape("bloom-1b7", 2048, 24),
         Shape("bloom-3b", 2560, 30), Shape("bloom-7b1", 4096, 30), Shape("bloom-176b", 14336, 70))


def table_shapes(loaded: Shape) -> tuple[Shape, ...]:
    """The known sizes, with the loaded model first where it is none of them."""
    same = loaded.is_bloom and any(
        (s.hidden_size, s.n_layer, s.vocab_size) == (loaded.hidden_size, loaded.n_layer, loaded.vocab_size)
        for s in SIZES)
    return SIZES if same else (loaded, *SIZES)
