"""`Engine`'s face towards a page, with the model in replicas of Ray Serve elsewhere.

It keeps tokenizer and adapter names, and no model. A question whose replica dies is put to another one: answers
follow from question, settings and seed, so what was already handed on is passed over. See `ray_serve.py`.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Sequence
from queue import SimpleQueue
from types import SimpleNamespace

from compare.engine.ask import Ask
from compare.engine.engine import WINDOW, Engine
from compare.engine.interface import Grown, Load, Sampling, Variant
from lens.adapter_dir import read_adapters
from lens.chat import Prompt

TRIES = 3  # replicas that a question is put to before its visitor hears of the failure


class RemoteEngine(Engine):
    """`handle`: Serve's handle to the replicas, or anything that answers like it."""

    def __init__(self, handle, base: str, adapters: Sequence[str]):
        """Read tokenizer and adapter files here, ask a replica for the rest. Raises BadAdapter."""
        from transformers import AutoTokenizer

        from lens.chat import use_our_template

        self.handle, self.window = handle, WINDOW
        given = read_adapters(adapters)
        self.adapters, self.shown = {files.name: files for files in given}, [files.name for files in given]
        self.notes = [note for files in self.adapters.values() for note in files.notes]
        self.tokenizer = AutoTokenizer.from_pretrained(base)
        use_our_template(self.tokenizer)
        self.prompt = Prompt(self.tokenizer)
        self.waiting, wake = deque(maxlen=0), threading.Event()  # the replicas keep the line
        self.owner = SimpleNamespace(  # type: ignore[assignment]  # stands in for the thread that is elsewhere
            take=lambda inbox: inbox.get(), wake=wake, state="remote")
        vars(self).update(handle.facts.remote().result())

    def load(self) -> Load:
        """Nothing is known here of how busy the replicas are; Serve's own dashboard shows it."""
        return Load(0, 0, 0, "remote")

    def submit(self, question: str, instruction: str, variants: Sequence[Variant], sampling: Sampling,
               inbox: SimpleQueue, cancelled: threading.Event | None = None) -> Ask:
        """Put a question to a replica. Raises BadQuestion here, before it travels."""
        ask = super().submit(question, instruction, variants, sampling, inbox, cancelled)
        threading.Thread(target=self.follow, args=(ask, question, instruction), daemon=True).start()
        return ask

    def follow(self, ask: Ask, question: str, instruction: str) -> None:
        """Hand on what a replica grows; where one dies, ask again and pass over what was already handed on."""
        from ray.exceptions import RayActorError

        shown: Counter[int] = Counter()  # of each column: how much was handed on
        try:
            for attempt in range(1, TRIES + 1):
                stream = self.handle.options(stream=True).answer.remote(question, instruction, ask.variants,
                                                                        ask.sampling)
                try:
                    return self.hand_on(ask, stream, shown)
                except RayActorError:
                    if attempt == TRIES:
                        raise
        except Exception as err:  # noqa: BLE001 (whatever it is, the one who asked must hear of it)
            ask.inbox.put((ask, err))

    def hand_on(self, ask: Ask, stream, shown: Counter[int]) -> None:
        grown_now: Counter[int] = Counter()
        growing = set(range(len(ask.variants)))
        for news in stream:
            grown_now.update(grown.column for grown in news)
            growing -= {grown.column for grown in news if grown.finish_reason}
            if fresh := [grown for grown in news if grown_now[grown.column] > shown[grown.column]]:
                ask.inbox.put((ask, fresh))
                shown.update(grown.column for grown in fresh)
            if ask.cancelled.is_set() and growing:
                stream.cancel()
                return ask.inbox.put((ask, [Grown(i, None, None, "cancelled") for i in growing]))

    def anatomy(self, name: str):
        return self.handle.anatomy.remote(name).result()

    def states(self, rows, variants):
        return self.handle.states.remote(rows, variants).result()

    def logits(self, states):
        return self.handle.logits.remote(states).result()
