"""The axis of a batch by itself; with a batch on it, test_batch.py."""

from __future__ import annotations

import torch
from conftest import tiny_bloom

from compare.engine.kv_cache import Axis
from compare.models.bloom import Bloom


def test_an_axis_never_mixes_stale_infinities():
    """A row that left may have left inf behind; the next in its slot must not see it (inf - inf is NaN)."""
    axis = Axis(Bloom(tiny_bloom()))
    axis.enter(1, 20).keys.fill_(torch.inf)
    axis.enter(1, 20)
    axis.leave(0)
    axis.enter(1, 3)
    assert axis.cache.keys[:, 1, :, :17].isfinite().all()
