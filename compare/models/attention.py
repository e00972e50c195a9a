"""What each query takes from the values of the keys that it looks at."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def attend(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor, scale: float, cap: float | None = None,
           one_call: bool = False) -> Tensor:
    """(rows, heads, length, head size) queries over keys and values of as many or fewer heads → (rows, length, hidden).

    `mask`: what is added to scores, -inf where a query may not look; `cap`: what tanh keeps scores below. `one_call`:
    one launch for seven, without a cap; the mask is then in the query's dtype, and once more for each query of a group.
    Queries of a group lie side by side over their keys, which are not copied (grouped queries: Ainslie et al., 2023).
    """
    (rows, heads, length, size), kv_heads = query.shape, keys.shape[1]
    some = query.reshape(rows, kv_heads, -1, size)
    if one_call:
        mixed = F.scaled_dot_product_attention(some, keys, values, mask, scale=scale)
    else:
        scores = (some @ keys.mT).float().mul_(scale).view(rows, heads, length, -1)
        if cap is not None:
            scores = scores.div_(cap).tanh_().mul_(cap)
        weights = scores.add_(mask).softmax(-1).to(query.dtype)
        mixed = weights.view(rows, kv_heads, some.shape[2], -1) @ values
    return mixed.view(rows, heads, length, size).transpose(1, 2).reshape(rows, length, -1)
