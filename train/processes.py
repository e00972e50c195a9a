"""The processes of one run (torchrun): which of them speaks and writes, and how they end."""

from __future__ import annotations

import os


def is_first() -> bool:
    """Is this the first process of its run, by torchrun's number? True where it is the only one."""
    return os.environ.get("RANK", "0") == "0"


def part_together() -> None:
    """The processes of one run end together: without this gloo aborts at exit now and then."""
    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()
