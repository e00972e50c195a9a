"""The engine with its model in replicas of Ray Serve elsewhere; here are the tokenizer and the adapters' files alone.

A question whose replica dies is put to another one: answers follow from question, settings and seed, so what was
already handed on is passed over. See `deploy/ray_serve.py`. No torch.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from compare.analysis.token_text import Tokens
from compare.engine.interface import GivenAnswer, Load, LoadedAdapter, Variant
from compare.engine.open_question import OpenQuestion
from compare.engine.shared_engine import SharedEngine, answered_by
from lens.adapter.directory import read_adapters
from lens.errors import Unavailable, first_line

if TYPE_CHECKING:
    from compare.analysis.adapter_norms import Anatomy
    from compare.analysis.layer_lens import ByLayer
    from compare.analysis.token_shift import Position

TRIES = 3  # replicas that a question is put to before its visitor hears of the failure


class RemoteEngine(SharedEngine):
    """`handle`: Serve's handle to the replicas, or anything that answers like it."""

    def __init__(self, handle: Any, base: str, adapters: Sequence[str], chat_template: str = ""):
        """Read tokenizer and adapter files here, ask a replica for the rest. `chat_template`: the file that
        replicas use in place of the base's own. Raises BadAdapter."""
        from lens.base.loading import load_tokenizer

        given = read_adapters(adapters, base)
        tokenizer = load_tokenizer(base, chat_template)
        self.handle, self.tokens, self.closed = handle, Tokens(tokenizer), False
        there, known, able, self.notes = handle.facts.remote().result()
        self.facts = replace(there, base=base)
        self.abilities = able - {"load-adapters"}
        self._adapters: dict[str, LoadedAdapter] = {one.name: replace(known[one.name], files=one) for one in given}
        self.shown = [one.name for one in given if known[one.name].shown]

    @property
    def adapters(self) -> Mapping[str, LoadedAdapter]:
        return self._adapters

    def load(self) -> Load:
        """Nothing is known here of how busy the replicas are; Serve's own dashboard shows it."""
        return Load(0, 0, 0, "closed" if self.closed else "remote")

    def begin(self, question: OpenQuestion) -> None:
        self.check_open()
        threading.Thread(target=self.follow, args=(question,), daemon=True).start()

    def check_open(self) -> None:
        if self.closed:
            raise Unavailable("engine-closed")

    def follow(self, question: OpenQuestion) -> None:
        """Hand on what a replica grows; where one dies, ask again and pass over what was already handed on."""
        from ray.exceptions import RayActorError

        told: Counter[int] = Counter()  # of each column: how much was handed on
        try:
            for attempt in range(1, TRIES + 1):
                stream = self.handle.options(stream=True).answer.remote(question.question, question.variants,
                                                                        question.sampling)
                try:
                    return answered_by(question, stream, stream.cancel, told)
                except RayActorError as err:
                    if attempt == TRIES:
                        raise Unavailable("replica-died", tries=TRIES, reason=first_line(err)) from err
        except Exception as err:  # noqa: BLE001 (whatever it is, the one who asked must hear of it)
            question.fail(cause(err))

    def call(self, method: str, *given: Any) -> Any:
        """What a method of a replica's engine returns. Raises what it raises there."""
        self.check_open()
        try:
            return self.handle.call.remote(method, *given).result()
        except Exception as err:
            raise cause(err) from err

    def score(self, prompt_ids: Sequence[int], answers: Sequence[Sequence[int]], base: Variant,
              adapted: Variant) -> list[tuple[Position, ...]]:
        self.check([base, adapted])
        found: list[tuple[Position, ...]] = self.call("score", prompt_ids, answers, base, adapted)
        return found

    def log_likelihoods(self, given: Sequence[GivenAnswer]) -> list[float]:
        self.check([one.variant for one in given])
        found: list[float] = self.call("log_likelihoods", given)
        return found

    def by_layer(self, given: GivenAnswer, positions: Sequence[int]) -> ByLayer:
        self.check_by_layer(given, positions)
        found: ByLayer = self.call("by_layer", given, positions)
        return found

    def adapter_norms(self, name: str) -> Anatomy:
        found: Anatomy = self.call("adapter_norms", name)
        return found

    def adapter_pairs(self, names: Sequence[str]) -> dict[str, Any]:
        found: dict[str, Any] = self.call("adapter_pairs", list(names))
        return found

    def close(self) -> None:
        """Ask nothing more; the replicas are Serve's, and live on."""
        self.closed = True


def cause(error: Exception) -> Exception:
    """What was raised in a replica, out of Ray's wrapping."""
    inner = getattr(error, "cause", None)
    return inner if isinstance(inner, Exception) else error
