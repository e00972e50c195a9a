"""What other programs hold of a GPU is counted, taken off what graphs may take, and named where memory is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from compare.engine import local
from compare.engine.local import LocalEngine
from compare.engine.memory import too_little
from compare.models.recordings import CAP, SHARE, CudaGraphs
from lens.base.loading import too_large
from lens.gpu_memory import gpu_memory, shared_gpu

GB = 10**9


@pytest.fixture
def card(monkeypatch):
    """A GPU of 80 GB: set what is free, and what torch holds here."""
    def make(free: float, ours: float) -> None:
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (int(free * GB), 80 * GB))
        monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: int(ours * GB))
    return make


def test_what_is_neither_free_nor_ours_is_others_beyond_what_cuda_takes(card):
    card(free=30, ours=10)
    assert gpu_memory("cuda").others == 40 * GB
    assert shared_gpu("cuda:0") == {"others": "40.0 GB", "total": "80.0 GB", "free": "30.0 GB"}
    card(free=69.5, ours=10)
    assert gpu_memory("cuda").others == 0 and shared_gpu("cuda") == shared_gpu("cpu") == {}


def test_a_refusal_names_the_other_programs(card):
    card(free=0.2, ours=10)
    for error, alone in ((too_little("cuda"), "question-out-of-memory"),
                         (too_large(Path("b"), "cuda"), "base-too-large")):
        assert error.code == f"{alone}-gpu-shared" and "69.8 GB" in str(error) and "69.8 GB" in error.zh
    card(free=0.2, ours=79)
    assert (too_little("cuda").code, too_little("cpu").code) == ("question-out-of-memory",) * 2
    assert too_large(Path("b"), "cuda").code == "base-too-large"


def test_an_engine_beside_another_program_says_so_as_it_is_loaded(monkeypatch, tiny_base):
    monkeypatch.setattr(local, "shared_gpu", lambda device: {"others": "40.0 GB", "total": "80.0 GB", "free": "9.0 GB"})
    with LocalEngine(str(tiny_base), device="cpu") as engine:
        assert "other programs hold about 40.0 GB" in "\n".join(map(str, engine.notes))


def test_graphs_may_take_a_share_of_what_is_free_not_of_the_whole_card(card):
    graphs = object.__new__(CudaGraphs)
    graphs.device, graphs.bytes = torch.device("cuda"), 0
    card(free=4, ours=10)
    assert graphs.allowed() == int(SHARE * 4 * GB)
    graphs.bytes = 1 * GB  # theirs are free for them
    card(free=3, ours=11)
    assert graphs.allowed() == int(SHARE * 4 * GB)
    card(free=70, ours=10)
    assert graphs.allowed() == CAP
