"""Too little memory for real: processes under a limit of address space, which Linux alone tells of."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ADAPTER, BASE

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no limits of address space here")

ENGINE = """
import json, resource, sys
from compare.engine.answers import answer_all, compare
from compare.engine.interface import Question, Sampling
from compare.engine.local import LocalEngine

def answers():
    found = dict(answer_all(engine, asked, engine.variants([1.0, 0.5, 0.25]), Sampling(64)))
    return [[c.token_ids for c in found[i]] for i in range(len(asked))]

engine = LocalEngine(sys.argv[1], sys.argv[2], device="cpu")
asked = [Question(f"第{i}题：哈工大的校训是什么？") for i in range(12)]
next(compare(engine, Question("你好"), sampling=Sampling(1)))  # the thread and its stack
held = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
free = resource.getrlimit(resource.RLIMIT_AS)[1]
resource.setrlimit(resource.RLIMIT_AS, (held + int(sys.argv[3]) * 1_000_000, free))
tight, room = answers(), engine.queue.capacity.limit
resource.setrlimit(resource.RLIMIT_AS, (free, free))
roomy = answers()
print(json.dumps({"room": room, "equal": sum(a == b for a, b in zip(tight, roomy)), "of": len(roomy)}))
"""
MEGABYTES = 60  # that the 48 columns may take; the cache of 64 rows alone is 100


@pytest.mark.slow  # in `make test`, with errors put in: test_degradation.py
def test_with_too_little_memory_for_real_all_are_answered():
    done = subprocess.run([sys.executable, "-c", ENGINE, str(BASE), str(ADAPTER), str(MEGABYTES)], capture_output=True,
                          text=True, timeout=200, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["room"] < 64 and found["equal"] >= found["of"] - 1  # a near-tie may part one of them


PRODUCT = """
import os, resource, sys, torch
from compare.models import cpu_matmul as products
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


def test_a_kernel_is_made_only_where_it_fits():
    """oneDNN ended the process, by a read of address 0, where memory ran out while it made one."""
    ends = lambda way: [int(end) for end in subprocess.run(  # noqa: E731
        [sys.executable, "-c", PRODUCT, way], capture_output=True, text=True, timeout=100,
        cwd=ROOT).stdout.split()]
    bare, guarded = ends("by_onednn"), ends("product")
    assert len(bare) == len(guarded) == 6 and bare[-1] == guarded[-1] == 0
    assert min(guarded) >= 0, f"ended by signals: {guarded}; without a look at the room: {bare}"
