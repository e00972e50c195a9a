"""The local engine by the names it had before the interface, for callers that have not moved."""

from __future__ import annotations

from typing import Any

from compare.engine.answers import Column
from compare.engine.interface import BASE, PLAIN, Variant
from compare.engine.local import LocalEngine
from compare.engine.old_names import OldNames

__all__ = ["BASE", "PLAIN", "Column", "Engine", "Variant"]


class Engine(OldNames, LocalEngine):
    @property
    def model(self) -> Any:  
        return self.loaded.model

    @model.setter
    def model(self, model: Any) -> None:
        self.loaded.model = model

    dtype = property(lambda self: self.loaded.dtype)
    bloom = property(lambda self: self.loaded.bloom)
    stack_of = property(lambda self: self.loaded.stack_of)
    untouched = property(lambda self: self.loaded.untouched)
    batch = property(lambda self: self.queue.batch)
    waiting = property(lambda self: self.queue.waiting)
