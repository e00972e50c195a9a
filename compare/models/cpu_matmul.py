"""x·Wᵀ + b over weights as they are, by the way that the processor does quickest for so many rows.

On a CPU in float32 torch's own way, MKL, takes longer for two rows than for one, and nearly as long as for thirty: it
lays the whole matrix out anew for each product. For a few rows the wide matrix on the left takes a half to a quarter of
that, for more rows oneDNN a half to three quarters; neither keeps a copy. Measured by `python -m bench.matmul`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

FEW = 4  # rows; up to here the wide matrix on the left is quickest (bench/README.md)
MANY = 64  # rows; beyond, laying the matrix out costs little beside the sums
SPARE = 8_000_000  # bytes; what oneDNN took to make a kernel was below 2 million for every shape tried
made: set[tuple] = set()  # the kernels that oneDNN has


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """(…, in) → (…, out). Equal to `F.linear` up to the order of its sums; without a gradient."""
    rows = x.numel() // x.shape[-1]
    if x.device.type != "cpu" or x.dtype != torch.float32 or not 0 < rows <= MANY:
        return F.linear(x, weight, bias)
    some = x.reshape(rows, -1)
    if rows <= FEW:
        return on_the_left(some, weight, bias).view(*x.shape[:-1], -1)
    try:
        some = F.pad(some, (0, 0, 0, kind(rows) - rows))
        if (kernel := (len(some), weight.shape, bias is None, torch.get_num_threads())) not in made:
            room_for_one(len(some) * len(weight))
            made.add(kernel)
        return by_onednn(some, weight, bias)[:rows].view(*x.shape[:-1], -1)
    except (RuntimeError, AttributeError):  # it does not say when memory is short, and not every torch has it:
        return F.linear(x, weight, bias)  # torch's own way does it, or says why not


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


def by_onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The call that torch's own compiler makes of a linear layer on a CPU."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
