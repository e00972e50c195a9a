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


def test_what_is_read_before_it_is_written_is_finite_after_a_move_too():
    """A row that is moved leaves what it had behind now; whoever takes its place in a fixed shape reads there."""
    cache = KVCache(Bloom(tiny_bloom()), fixed=True)
    cache.enter(1, 100)
    cache.enter(1, 20).keys.fill_(torch.inf)
    cache.enter(1, 20)
    cache.leave(0)
    cache.move(-80)
    cache.enter(1, 5)
    cache.leave(1)
    assert (cache.now, cache.starts) == (20, [0, 15])
    assert not cache.cache.keys[:, :2, :, cache.now:].any()
