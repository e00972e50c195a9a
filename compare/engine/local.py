"""The engine on this machine: one copy of a base, every column of every question a row of one running batch.

The way of one question: `ask` (text → prompt ids) → the queue → the batch, a step at a time → events, read by whoever
asked. A single thread owns the model (`model_thread.py`).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from compare.analysis.adapter_norms import Anatomy, anatomy
from compare.analysis.adapter_pairs import AdapterPairs
from compare.analysis.layer_lens import ByLayer, unreadable
from compare.analysis.layer_readings import by_layer
from compare.analysis.token_scores import log_likelihoods, score
from compare.analysis.token_shift import Position
from compare.engine.adapter_shelf import MOST_ADDED, AdapterShelf
from compare.engine.interface import Ability, EngineEvent, Facts, GivenAnswer, Load, LoadedAdapter, Variant
from compare.engine.model_thread import ModelThread
from compare.engine.open_question import OpenQuestion
from compare.engine.queue import QuestionQueue
from compare.engine.shared_engine import Inbox, SharedEngine
from compare.models.architecture import WrittenOut
from compare.models.loaded_model import LoadedModel
from lens.adapter.directory import check_base, check_ending, read_adapters
from lens.base.files import find_base
from lens.base.linear_layers import describe
from lens.base.loading import load_base, load_tokenizer, template_notes
from lens.chat_template import is_ours
from lens.errors import BadAdapter, Note, Unavailable
from lens.gpu_memory import shared_gpu

T = TypeVar("T")


class LocalEngine(SharedEngine):
    """One base with any number of adapters.

    `adapter`: a directory, several, or None; `timeline`: more of them, loaded but shown only when asked for.
    `max_rows`: columns that advance together; more wait in line. `threaded=False`: no thread of its own, the one
    who reads does the work. `most_added`: adapters added later that stay on the model at once. `chat_template`: a file
    that is used in place of the base's own. `static`: steps of fixed shape, captured as CUDA graphs where there is a
    GPU (`compare/models/decode_graph.py`); by default there alone.
    """

    closing: weakref.finalize[..., LocalEngine]

    def __init__(self, base: str, adapter: str | Sequence[str] | None = None, device: str = "auto",
                 dtype: str = "auto", max_rows: int = 64, threaded: bool = True, timeline: Sequence[str] = (),
                 most_added: int = MOST_ADDED, chat_template: str = "", static: bool | None = None):
        """Load. Raises BadBase or BadAdapter before anything runs."""
        base_files = find_base(base)
        tokenizer = load_tokenizer(base_files, chat_template)  # a broken base is told as such, whatever adapters come
        paths = [adapter] if isinstance(adapter, str) else list(adapter or [])
        given = read_adapters([*paths, *timeline], base_files)
        files = {one.name: one for one in given}
        notes = [*template_notes(base, tokenizer),
                 *(note for one in files.values() for note in one.notes),
                 *check_base(base, files.values(), chat_template)]
        self.loaded = LoadedModel(base, load_base(base_files, device, dtype, tokenizer), files)
        notes += [note for one in given for note in check_ending(one, tokenizer, self.loaded.ends)]
        if shared := shared_gpu(self.loaded.device):
            notes.append(Note("gpu-shared", **shared))
        self.tokens, self.shown = self.loaded.tokens, [one.name for one in given[:len(paths)]]
        self.shelf = AdapterShelf(self.loaded, self.shown, notes, most_added, chat_template)
        self.own_template = not chat_template and not is_ours(tokenizer.chat_template)
        self.static = static
        self.start(max_rows, threaded)

    def start(self, max_rows: int, threaded: bool) -> None:
        """An empty queue over the weights where they are now, and the thread that serves it."""
        m, layers = self.loaded, describe(self.loaded.base_model)
        self.facts = Facts(m.base, m.base_name, m.device, str(m.dtype).removeprefix("torch."), m.parameters,
                           m.decoder.window, m.shape, self.own_template, layers.sizes, layers.family,
                           m.tokens.spell([m.tokens.end_id])[0].text)
        by_layer: set[Ability] = {"by-layer"} if isinstance(m.decoder, WrittenOut) else set()
        self.abilities = frozenset({"load-adapters", *by_layer})
        self.max_rows = max_rows
        if hasattr(self, "closing"):
            self.closing.detach()  # a fork's first question: the parent closes its own
        self.queue = QuestionQueue(self.loaded, max_rows, self.shelf.bring, self.static)
        self.thread = ModelThread(self.queue.work, threaded, self.queue.thread_died)
        self.closing = weakref.finalize(self, close, self.thread, self.queue)  # also where Python ends

    @property
    def notes(self) -> Sequence[Note]:
        return self.shelf.notes

    @property
    def adapters(self) -> Mapping[str, LoadedAdapter]:
        return self.shelf.known

    def load(self) -> Load:
        if not self.closing.alive:
            return Load(0, 0, 0, self.thread.state, self.thread.deaths)
        batch = self.queue.batch
        return Load(len(batch.rows), len(self.queue.waiting), self.queue.capacity.limit, self.thread.state,
                    self.thread.deaths, batch.steps)

    def begin(self, question: OpenQuestion) -> None:
        self.check_open()
        self.queue.waiting.append(question)
        self.thread.wake.set()

    def take(self, inbox: Inbox) -> EngineEvent:
        return self.thread.take(inbox)

    def check_open(self) -> None:
        """Raises Unavailable where nothing can be answered any more: rather than a place in a line nobody serves."""
        if not self.closing.alive:
            raise Unavailable("engine-closed")
        if self.thread.ended:
            raise Unavailable("model-thread-ended")

    def run(self, function: Callable[[], T], variants: Iterable[Variant] = ()) -> T:
        """A computation where the model may be touched, with the variants' adapters on it. Raises what it raises."""
        self.check_open()

        def whole() -> T:
            self.shelf.bring({v.adapter for v in variants if v.adapter})
            return self.queue.run(function)

        return self.thread.call(whole)

    def states(self, rows: Sequence[Sequence[int]], variants: Sequence[Variant]) -> Tensor:
        """As `LoadedModel.states`, chunk by chunk between the steps of the batch."""
        return torch.cat(list(self.chunks(rows, variants)), 1)

    def chunks(self, rows: Sequence[Sequence[int]], variants: Sequence[Variant],
               seen: list[Tensor] | None = None) -> Iterator[Tensor]:
        """(rows, positions, hidden) last hidden states; `seen` has those after each layer of the chunk at hand."""
        ids, gate = self.run(lambda: self.loaded.sequences(rows, variants), variants)
        decoder = self.loaded.decoder
        cache = self.run(lambda: decoder.new_cache(*ids.shape))

        def read(start: int, end: int) -> Tensor:
            if seen is not None:
                seen.clear()  # also what a first try left that ran out of memory
            return decoder.read_chunk(ids[:, :end], gate, cache, start, seen)

        for start, end in decoder.spans(ids.shape[0], ids.shape[1], lambda: not self.queue.busy):
            yield self.run(partial(read, start, end))

    def layer_states(self, rows: Sequence[Sequence[int]], variants: Sequence[Variant]) -> Iterator[Tensor]:
        seen: list[Tensor] = []
        for _ in self.chunks(rows, variants, seen):
            yield torch.stack(seen)

    def layer_logits(self, states: Tensor) -> Tensor:
        return self.run(lambda: self.loaded.logits(self.written_out.norm_out(states)))

    @property
    def written_out(self) -> WrittenOut:
        """The model's forward. Raises Unavailable where its layers cannot be looked at one by one."""
        if not isinstance(self.loaded.decoder, WrittenOut):
            raise unreadable(self.loaded.base_name)
        return self.loaded.decoder

    def logits(self, states: Tensor) -> Tensor:
        return self.run(lambda: self.loaded.logits(states))

    def score(self, prompt_ids: Sequence[int], answers: Sequence[Sequence[int]], base: Variant,
              adapted: Variant) -> list[tuple[Position, ...]]:
        self.check([base, adapted])
        return score(self, self.tokens, prompt_ids, answers, base, adapted)

    def log_likelihoods(self, given: Sequence[GivenAnswer]) -> list[float]:
        self.check([one.variant for one in given])
        return log_likelihoods(self, given)

    def by_layer(self, given: GivenAnswer, positions: Sequence[int]) -> ByLayer:
        self.check_by_layer(given, positions)
        return by_layer(self, self.tokens, given, positions)

    def adapter_norms(self, name: str) -> Anatomy:
        return self.run(lambda: anatomy(self.loaded.model, name), [Variant.of(name)] if name in self.adapters else [])

    def adapter_pairs(self, names: Sequence[str]) -> dict[str, Any]:
        return AdapterPairs([self.adapters[name].files for name in names]).as_dict()

    def load_adapter(self, path: Path) -> str:
        files, notes = self.shelf.read(path)
        return self.run(lambda: self.shelf.add(files, notes, self.queue.in_use()))

    def unload_adapter(self, name: str) -> None:
        if name not in self.adapters:
            raise BadAdapter("adapter-not-on-model", adapter=repr(name[:80]))
        self.run(lambda: self.shelf.remove(name, self.queue.in_use()))

    def close(self) -> None:
        if self.closing.alive:
            self.closing()
            del self.loaded, self.shelf.loaded


def close(thread: ModelThread, queue: QuestionQueue) -> None:
    """End the thread after its present turn: one that is inside the model when Python ends aborts the process."""
    thread.close()
    queue.close(Unavailable("engine-closed"))
