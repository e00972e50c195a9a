"""This process among those that share a run: which of them speaks and writes, its part of the rows, a clean end.

One process needs no launcher; many are started with `torchrun -m train …` or `torchrun -m compare.evaluate …`.
"""

from __future__ import annotations

import os
from typing import TypeVar

T = TypeVar("T")


def rank() -> int:
    """This process's number among all, as torchrun sets it; 0 when there is one."""
    return int(os.environ.get("RANK", "0") or 0)


def world_size() -> int:
    """Processes of this run, by torchrun's number."""
    return int(os.environ.get("WORLD_SIZE", "1") or 1)


def is_first() -> bool:
    """Is this the process that speaks? True where it is the only one."""
    return rank() == 0


def part_together() -> None:
    """The processes of one run end together: without this gloo aborts at exit now and then."""
    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()


def limit(seconds: int, memory: int) -> None:
    """Let this process take no more than so much processor time, and so many bytes of address space; nothing where the
    system has no such limits."""
    try:
        import resource
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))


class Processes:
    """All processes of the run, through accelerate."""

    def __init__(self, device: str = "auto"):
        """`device` as asked for; with "cpu" the processes talk over gloo."""
        self.asked = device
        self.state = None
        if world_size() > 1:
            from accelerate import PartialState

            self.state = PartialState(cpu=device == "cpu")

    @property
    def count(self) -> int:
        return self.state.num_processes if self.state else 1

    @property
    def main(self) -> bool:
        return self.state is None or self.state.is_main_process

    @property
    def device(self) -> str:
        """Where this process's model goes: its own GPU where there are several processes."""
        return str(self.state.device) if self.state and self.asked in ("auto", "cuda") else self.asked

    def split(self, items: list[T]) -> list[T]:
        """This process's part of a list that all have; every item goes to one process.

        Every so-many-th item rather than a run of them: long questions often stand together.
        """
        return items if self.state is None else items[self.state.process_index::self.count]

    def gather(self, items: list[T]) -> list[T]:
        """The items of all processes, process 0's first. All must call it."""
        if self.state is None:
            return items
        from accelerate.utils import gather_object

        found: list[T] = gather_object(items)
        return found
