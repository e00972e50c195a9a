"""The one interface to a loaded model: what the page, the command line, evaluation and the API use. No torch.

An engine runs here (`local.py`), in replicas on other machines (`remote.py`), or on a GPU that is lent for each
question (`zero_gpu.py`); all pass tests/test_engine_interface.py. Whoever wants columns rather than events takes
`compare` and `answer_all` from `answers.py`.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from compare.engine.question import (
    BASE,
    PLAIN,
    RANGES,
    Continuation,
    GivenAnswer,
    Question,
    Range,
    Sampling,
    Variant,
    number,
    unique_names,
)
from lens.adapter.directory import AdapterFiles
from lens.base.linear_layers import LinearKind
from lens.errors import Note

if TYPE_CHECKING:
    from compare.analysis.adapter_norms import Anatomy
    from compare.analysis.layer_lens import ByLayer
    from compare.analysis.layer_map import LayerMap
    from compare.analysis.token_shift import Position
    from compare.analysis.token_text import Tokens
    from compare.models.receipt import Receipt

__all__ = ["BASE", "PLAIN", "RANGES", "Asked", "Continuation", "Ended", "Engine", "EngineEvent", "Facts",
           "GivenAnswer", "Grown", "Load", "LoadedAdapter", "Question", "Range", "Sampling", "Shape", "Step", "Variant",
           "number", "unique_names"]

# What not every engine can do; without it the method raises Unavailable. "by-layer": of models whose forward is written
# out in compare/models.
Ability = Literal["load-adapters", "by-layer"]
FinishReason = Literal["stop", "length", "loop", "cancelled"]


# ---- what is loaded


@dataclass(frozen=True)
class Shape:
    """The sizes of a model, as its config has them."""

    vocab_size: int
    hidden_size: int
    n_layer: int
    n_head: int


@dataclass(frozen=True)
class Facts:
    """What is loaded. `base`: the directory or hub name it came from; `dtype`: such as "float32"; `window`: tokens
    that a question and its answer may have together; `own_template`: is it asked by a chat template that it brought
    itself, as instruct models do? `linears`: its blocks' linear layers by short name; `family`: its
    config's model_type; `end_token`: what ends an answer."""

    base: str
    base_name: str
    device: str
    dtype: str
    parameters: int
    window: int
    shape: Shape
    own_template: bool = False
    linears: Mapping[str, LinearKind] = field(default_factory=dict)
    family: str = "bloom"
    end_token: str = "</s>"


@dataclass(frozen=True)
class LoadedAdapter:
    """An adapter that can be asked for. `shown`: is it a column of every question? `step`: of the training that it is
    a checkpoint of, None where its directory does not say."""

    files: AdapterFiles
    receipt: Receipt
    shown: bool
    step: int | None

    @property
    def name(self) -> str:
        return self.files.name

    @property
    def path(self) -> Path:
        return self.files.path

    @property
    def sha256(self) -> str:
        return self.files.sha256

    @property
    def decides(self) -> list[object]:
        """What of it decides an answer, for JSON: its weights, and what each layer's update is scaled by."""
        return [self.sha256, {module: self.files.scaling_of(module) for module in self.files.sites}]

    @property
    def r(self) -> int:
        return self.files.r


@dataclass(frozen=True)
class Load:
    """How much an engine has to do: columns that advance together, questions in line, columns there is room for.

    `thread`: the state of the thread that runs the model (`ModelThread.state`; `remote`: it is elsewhere);
    `restarts`: its deaths; `steps`: how tokens are made (`Batch.steps`), empty where that is not known.
    """

    columns: int
    waiting: int
    room: int
    thread: str
    restarts: int = 0
    steps: str = ""


# ---- what happens to a question


@dataclass(frozen=True)
class Asked:
    """First of each question. `question`: which of those asked, from 0; `variants`: its columns, by unique names;
    `prompt_ids`: of each column."""

    question: int
    variants: tuple[Variant, ...]
    prompt_ids: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Grown:
    """What one column got in one step: a token (None at the end), P(`</s>`), and why it finished, if it did."""

    column: int
    token: int | None
    end_probability: float | None = None
    finish_reason: FinishReason | None = None


@dataclass(frozen=True)
class Step:
    """What a question's columns got since its last event, in order; for a slow reader several steps in one."""

    question: int
    grown: tuple[Grown, ...]


@dataclass(frozen=True)
class Ended:
    """Last of each question: all its columns have finished, or `error`, a LensError, ended it."""

    question: int
    error: Exception | None = None


EngineEvent = Asked | Step | Ended


@runtime_checkable
class Engine(Protocol):
    """A loaded base with its adapters. Safe to use from many threads."""

    tokens: Tokens

    @property
    def facts(self) -> Facts: ...

    @property
    def adapters(self) -> Mapping[str, LoadedAdapter]:
        """By name; those of every question first, in the order of their columns."""

    @property
    def notes(self) -> Sequence[Note]:
        """What its user is to be told once: an adapter that was renamed, found elsewhere, and the like."""

    @property
    def abilities(self) -> frozenset[Ability]:
        """What this engine can do that not every engine can."""

    def variants(self, strengths: Sequence[float] = (1.0,)) -> list[Variant]:
        """The columns of every question: base, then each shown adapter at each strength, by unique names."""

    def prompts(self, question: Question, variants: Sequence[Variant], sampling: Sampling) -> list[list[int]]:
        """Each column's ids. Raises BadQuestion for an empty question, or one longer than the window."""

    def ask(self, questions: Sequence[Question], variants: Sequence[Variant] | None = None,
            sampling: Sampling = Sampling(), cancelled: Event | None = None) -> Generator[EngineEvent, None, None]:
        """Answer questions side by side, each under all variants (default: `variants()`). Setting `cancelled`, or
        leaving the iterator, ends them.

        Raises at the first `next`, before anything is computed: BadQuestion for an empty question, one longer than
        the window, an adapter that is not loaded; Unavailable where nothing can be answered. What goes wrong later
        ends one question and is in its `Ended`.
        """

    def score(self, prompt_ids: Sequence[int], answers: Sequence[Sequence[int]], base: Variant,
              adapted: Variant) -> list[tuple[Position, ...]]:
        """Each answer's tokens under both variants. Raises BadAdapter where logits are not finite."""

    def log_likelihoods(self, given: Sequence[GivenAnswer]) -> list[float]:
        """Of each answer's tokens together, in nats, in one forward."""

    def adapter_norms(self, name: str) -> Anatomy:
        """How large an adapter's update is, layer by layer. Raises BadAdapter."""

    def adapter_pairs(self, names: Sequence[str]) -> dict[str, Any]:
        """How these loaded adapters are related, by their weights alone: `AdapterPairs.as_dict`. Raises BadAdapter."""

    def layer_map(self, given: GivenAnswer) -> LayerMap:
        """Of an adapted variant's answer: what each part of the adapter adds to its log-probability, and what is lost
        without it. Raises BadQuestion, or BadAdapter where logits are not finite."""

    def by_layer(self, given: GivenAnswer, positions: Sequence[int]) -> ByLayer:
        """What base and adapted model would say after each layer at these tokens of the answer, from 0, and how far
        apart their states are. Raises as `layer_map`, and Unavailable."""

    def load_adapter(self, path: Path) -> str:
        """Load an adapter directory, to be asked for by the name that is returned; one that is loaded already, with
        the same weights, stays as it is. Raises BadAdapter or Unavailable; the engine is then as it was."""

    def unload_adapter(self, name: str) -> None:
        """Take an adapter off. Raises BadAdapter for an unknown one, Unavailable while a question uses it."""

    def load(self) -> Load:
        """How busy it is at this moment."""

    def close(self) -> None:
        """End what runs, and free model, cache and thread. Whoever still waits is told."""

    def __enter__(self) -> Engine: ...

    def __exit__(self, *error: object) -> None: ...
