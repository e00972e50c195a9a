"""x·Wᵀ + b over weights as they are, by the way that the processor does quickest for so many rows.

On a CPU in float32 torch's own way, MKL, takes longer for two rows than for one, and nearly as long as for thirty: it
lays the whole matrix out anew for each product. For a few rows the wide matrix on the left takes a half to a quarter of
that, for more rows oneDNN a half to three quarters; neither keeps a copy. Measured by `python -m bench.product`.
Knows nothing of layers.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

FEW = 4  # rows; up to here the wide matrix on the left is quickest (bench/README.md)


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """(…, in) → (…, out). Equal to `F.linear` up to the order of its sums; without a gradient."""
    if x.device.type != "cpu" or x.dtype != torch.float32 or not x.numel():
        return F.linear(x, weight, bias)
    if x.numel() // x.shape[-1] <= FEW:
        return on_the_left(x.reshape(-1, x.shape[-1]), weight, bias).view(*x.shape[:-1], -1)
    try:
        return by_onednn(x, weight, bias)
    except (RuntimeError, AttributeError):  # it does not say when memory is short, and not every torch has it:
        return F.linear(x, weight, bias)  # torch's own way does it, or says why not


def on_the_left(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """(rows, in) → (rows, out), a row alone as two, which take less time than one."""
    some = torch.cat([x, x]) if len(x) == 1 else x
    out = weight @ some.mT if bias is None else torch.addmm(bias[:, None], weight, some.mT)
    return out.mT[:len(x)].contiguous()


def by_onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The call that torch's own compiler makes of a linear layer on a CPU."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
