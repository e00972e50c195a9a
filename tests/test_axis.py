"""The KV cache of a batch by itself; with a batch on it, test_batch.py."""

from __future__ import annotations

import torch
from conftest import tiny_bloom

from compare.engine.kv_cache import KVCache
from compare.models.bloom import Bloom


def test_a_cache_never_mixes_stale_infinities():
    """A row that left may have left inf behind; the next in its slot must not see it (inf - inf is NaN)."""
    cache = KVCache(Bloom(tiny_bloom()))
    cache.enter(1, 20).keys.fill_(torch.inf)
    cache.enter(1, 20)
    cache.leave(0)
    cache.enter(1, 3)
    assert cache.cache.keys[:, 1, :, :17].isfinite().all()
