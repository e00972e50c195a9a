"""Products with the weights: the same numbers whichever way the number of rows takes."""

import time

import pytest
import torch
import torch.nn.functional as F

from compare.models import architecture
from compare.models import cpu_matmul as products
from compare.models.cpu_matmul import FEW, MANY, product
from compare.models.decoders import decoder_of
from tests.decoders import tiny_decoder

ROWS = (1, 2, FEW, FEW + 1, 3 * FEW, 5 * FEW, MANY, MANY + 6)


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("biased", [True, False])
def test_every_number_of_rows_gives_what_a_linear_layer_gives(rows, biased):
    x, weight = torch.randn(rows, 1, 24), torch.randn(40, 24)
    bias = torch.randn(40) if biased else None
    with torch.inference_mode():
        torch.testing.assert_close(product(x, weight, bias), F.linear(x, weight, bias), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("rows", ROWS)
def test_a_row_gets_the_same_whatever_stands_beside_it(rows):
    """What makes columns independent of who else is in the batch; up to the last bits, which ways round differently."""
    x, weight = torch.randn(rows, 24), torch.randn(40, 24)
    with torch.inference_mode():
        alone = torch.cat([product(row[None], weight) for row in x])
        torch.testing.assert_close(product(x, weight), alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("slow", ["linear", "on_the_left", "by_onednn"])
@pytest.mark.parametrize("rows", [1, FEW, 3 * FEW])
def test_what_is_slow_here_is_not_the_way(rows, slow, monkeypatch):
    """Each way is timed on this processor, once; the results of all are the same."""
    calls = []

    def late(x, weight, bias, way=getattr(F if slow == "linear" else products, slow)):
        calls.append(time.sleep(0.02))
        return way(x, weight, bias)

    monkeypatch.setattr(F if slow == "linear" else products, slow, late)
    monkeypatch.setattr(products, "quickest", {})
    x, weight = torch.ones(rows, 24), torch.ones(40, 24)
    with torch.inference_mode():
        found = [product(x, weight) for _ in range(3)]
    timings = len(calls)
    with torch.inference_mode():
        assert all(torch.equal(product(x, weight), one) for one in found) and torch.equal(found[0], x @ weight.T)
    assert len(calls) == timings and timings == (0 if slow == "by_onednn" and rows <= FEW else 1 + products.TRIALS)


@pytest.mark.parametrize("cold", [False, True])
def test_weights_that_come_from_memory_are_timed_so(cold, monkeypatch):
    """Timed in the cache, the way that takes 2.4 times as long from memory was taken for the quickest."""
    x, weight, read, ones = torch.ones(2, 24), torch.ones(40, 24), [], torch.ones

    def watched(size):
        read.append(size)
        return ones(size)

    monkeypatch.setattr(products.torch, "ones", watched)
    monkeypatch.setattr(products, "quickest", {})
    products.filling.cache_clear()
    with torch.inference_mode():
        assert torch.equal(product(x, weight, cold=cold), x @ weight.T)
    assert read == ([products.CACHE // 4] if cold else [])
    assert [sort[-1] for sort in products.quickest] == [cold]


def test_where_memory_is_short_a_product_is_timed_another_time(monkeypatch):
    """Its room for timing was more than there was, and a question ended that torch could have answered."""
    def fails():
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:124] can't allocate memory")

    monkeypatch.setattr(products, "filling", fails)
    monkeypatch.setattr(products, "quickest", {})
    x, weight = torch.ones(2, 24), torch.ones(40, 24)
    with torch.inference_mode():
        assert torch.equal(product(x, weight, cold=True), F.linear(x, weight))
        assert not products.quickest
        monkeypatch.undo()
        product(x, weight, cold=True)
    assert any(sort[-1] for sort in products.quickest)


@pytest.mark.parametrize("bytes_kept, cold", [(products.CACHE, False), (1000, True)])
def test_a_models_size_says_whether_its_weights_stay_in_the_cache(bytes_kept, cold, monkeypatch):
    monkeypatch.setattr(architecture, "CACHE", bytes_kept)
    assert decoder_of(tiny_decoder("llama")).cold is cold


def test_no_rows_are_no_rows():
    assert product(torch.empty(0, 24), torch.randn(40, 24)).shape == (0, 40)


def test_where_onednn_fails_torch_does_it(monkeypatch):
    """Under a limit of memory it raised "could not create a primitive", which nobody took for want of memory."""
    def fails(*_):
        raise RuntimeError("could not create a primitive")

    monkeypatch.setattr(products, "by_onednn", fails)
    monkeypatch.setattr(products, "timed", lambda *_: products.by_padding)
    monkeypatch.setattr(products, "quickest", {})
    x, weight = torch.randn(3 * FEW, 24), torch.randn(40, 24)
    with torch.inference_mode():
        torch.testing.assert_close(product(x, weight), F.linear(x, weight))


def test_few_kernels_serve_every_number_of_rows(monkeypatch):
    """oneDNN keeps one for each number it is given, most of a megabyte, and prompts have every length: memory grew."""
    seen, way = set(), products.by_onednn

    def watched(x, *rest):
        seen.add(len(x))
        return way(x, *rest)

    monkeypatch.setattr(products, "by_onednn", watched)
    monkeypatch.setattr(products, "timed", lambda *_: products.by_padding)
    monkeypatch.setattr(products, "quickest", {})
    with torch.inference_mode():
        for rows in range(1, 3 * MANY):
            assert product(torch.ones(rows, 24), torch.ones(40, 24)).shape == (rows, 40)
    assert 1 < len(seen) <= 10 and max(seen) == MANY
