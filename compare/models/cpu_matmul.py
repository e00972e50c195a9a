"""x·Wᵀ + b over weights as they are, by the way that this processor does quickest for so many rows.

Which way that is differs by a factor of two and more between processors, either way: on some, MKL (torch's own way)
takes longer for two rows than for one and nearly as long as for thirty, and the wide matrix on the left, or oneDNN,
takes a quarter to a half of that; on others MKL is the quickest for one and two rows by half. So the ways are timed
once for each kind of product, the first time it is needed, in a few calls on a part of the weights. None keeps a copy
of them. Weights that lie in the cache and weights that come from memory are two kinds: of a large model's none is still
there when its turn comes again, and what is quickest then is another way. All compared: `python -m bench.matmul`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

FEW = 4  # rows; up to here each number of rows is a kind of its own, and oneDNN was never the quickest
MANY = 64  # rows; beyond, laying the matrix out costs little beside the sums
TRIALS = 3  # of each way, in turn; the best of them counts, since whatever disturbs one only adds time
CACHE = 64 << 20  # bytes; more than a processor keeps between two steps
SAMPLE = 4_000_000  # weights at most that a trial multiplies with
SPARE = 8_000_000  # bytes; what oneDNN took to make a kernel was below 2 million for every shape tried
Way = Callable[[Tensor, Tensor, Tensor | None], Tensor]
made: set[tuple] = set()  # the kernels that oneDNN has
quickest: dict[tuple, Way] = {}  # by kind of product: rows, the weights' shape, with a bias or not, threads, cold


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None, cold: bool = False) -> Tensor:
    """(…, in) → (…, out). Equal to `F.linear` up to the order of its sums; without a gradient. `cold`: do the weights
    come from memory each time?"""
    rows = x.numel() // x.shape[-1]
    if x.device.type != "cpu" or x.dtype != torch.float32 or not 0 < rows <= MANY:
        return F.linear(x, weight, bias)
    some = x.reshape(rows, -1)
    sort = (rows if rows <= FEW else kind(rows), weight.shape, bias is None, torch.get_num_threads(), cold)
    if (way := quickest.get(sort)) is None:
        try:
            way = quickest[sort] = timed(some, weight, bias, cold)
        except RuntimeError:  # memory is short: by torch, and timed another time
            way = F.linear
    return way(some, weight, bias).view(*x.shape[:-1], -1)


def timed(some: Tensor, weight: Tensor, bias: Tensor | None, cold: bool) -> Way:
    """The way that takes the least time for a product of this kind."""
    rows = max(1, SAMPLE // weight.shape[1])
    part, added = weight[:rows], None if bias is None else bias[:rows]
    ways: list[Way] = [F.linear, on_the_left, *([by_padding] if len(some) > FEW else [])]
    best = dict.fromkeys(ways, float("inf"))
    for way in ways:
        way(some, part, added)  # the first call makes kernels
    others = filling() if cold else part[:0]
    for _ in range(TRIALS):
        for way in ways:
            others.sum()  # takes the place of the weights in the cache
            began = time.perf_counter()
            way(some, part, added)
            best[way] = min(best[way], time.perf_counter() - began)
    return min(ways, key=best.__getitem__)


@lru_cache(1)
def filling() -> Tensor:
    """What takes the place of the weights in the cache; made once, since to fill it takes longer than to read it."""
    return torch.ones(CACHE // 4)


def kind(rows: int) -> int:
    """The number of rows for which there is a kernel: each is kept for good and takes most of a megabyte."""
    step = FEW if rows <= 4 * FEW else 2 * FEW
    return -(-rows // step) * step


def room_for_one(results: int) -> None:
    """Raises where a kernel and so many results would not fit: making one, oneDNN ends the process when they do not."""
    torch.empty(4 * results + SPARE, dtype=torch.uint8)


def on_the_left(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """(rows, in) → (rows, out), a row alone as two, which take less time than one."""
    some = torch.cat([x, x]) if len(x) == 1 else x
    out = weight @ some.mT if bias is None else torch.addmm(bias[:, None], weight, some.mT)
    return out.mT[:len(x)].contiguous()


def by_padding(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """By oneDNN, rows filled up to a number for which there is a kernel; by torch where it cannot."""
    try:
        some = F.pad(x, (0, 0, 0, kind(len(x)) - len(x)))
        if (kernel := (len(some), weight.shape, bias is None, torch.get_num_threads())) not in made:
            room_for_one(len(some) * len(weight))
            made.add(kernel)
        return by_onednn(some, weight, bias)[:len(x)]
    except (RuntimeError, AttributeError):  # it does not say when memory is short, and not every torch has it:
        return F.linear(x, weight, bias)  # torch's own way does it, or says why not


def by_onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The call that torch's own compiler makes of a linear layer on a CPU."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
