"""Products with the weights: the same numbers whichever way the number of rows takes."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from compare import product as products
from compare.product import FEW, MANY, product

WAYS = (1, 2, FEW, FEW + 1, 3 * FEW, 5 * FEW, MANY, MANY + 6)


@pytest.mark.parametrize("rows", WAYS)
@pytest.mark.parametrize("biased", [True, False])
def test_every_number_of_rows_gives_what_a_linear_layer_gives(rows, biased):
    x, weight = torch.randn(rows, 1, 24), torch.randn(40, 24)
    bias = torch.randn(40) if biased else None
    with torch.inference_mode():
        torch.testing.assert_close(product(x, weight, bias), F.linear(x, weight, bias), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("rows", WAYS)
def test_a_row_gets_the_same_whatever_stands_beside_it(rows):
    """What makes columns independent of who else is in the batch; up to the last bits, which ways round differently."""
    x, weight = torch.randn(rows, 24), torch.randn(40, 24)
    with torch.inference_mode():
        alone = torch.cat([product(row[None], weight) for row in x])
        torch.testing.assert_close(product(x, weight), alone, atol=1e-5, rtol=1e-5)


def test_no_rows_are_no_rows():
    assert product(torch.empty(0, 24), torch.randn(40, 24)).shape == (0, 40)


def test_where_onednn_fails_torch_does_it(monkeypatch):
    """Under a limit of memory it raised "could not create a primitive", which nobody took for want of memory."""
    def fails(*_):
        raise RuntimeError("could not create a primitive")

    monkeypatch.setattr(products, "by_onednn", fails)
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
    with torch.inference_mode():
        for rows in range(1, 3 * MANY):
            assert product(torch.ones(rows, 24), torch.ones(40, 24)).shape == (rows, 40)
    assert 1 < len(seen) < 10 and max(seen) == MANY


TIGHT = """
import os, resource, sys, torch
from compare import product as products
torch.set_num_threads(1)
weight, free = torch.randn(1152, 384), resource.getrlimit(resource.RLIMIT_AS)[1]
way = getattr(products, sys.argv[1])
ended = []
for kilobytes in (0, 256, 1000, 3000, 6000, 20000):
    if not (child := os.fork()):
        x = torch.randn(8, 384)
        held = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (held + kilobytes * 1024, free))
        try:
            way(x, weight, None)
        except RuntimeError:
            os._exit(7)
        os._exit(0)
    ended.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(*ended)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="limits of address space are told by Linux alone")
def test_a_kernel_is_made_only_where_it_fits():
    """oneDNN ended the process, by a read of address 0, where memory ran out while it made one."""
    ends = lambda way: [int(end) for end in subprocess.run(  # noqa: E731
        [sys.executable, "-c", TIGHT, way], capture_output=True, text=True, timeout=100,
        cwd=Path(__file__).parent.parent).stdout.split()]
    bare, guarded = ends("by_onednn"), ends("product")
    assert len(bare) == len(guarded) == 6 and bare[-1] == guarded[-1] == 0
    assert min(guarded) >= 0, f"ended by signals: {guarded}; without a look at the room: {bare}"
