"""What only a CUDA device can show: steps are captured, replayed, and get the eager steps' answers."""

from __future__ import annotations

import copy
import subprocess
import sys

import pytest
import torch
from test_batch import MODEL, VARIANTS, answers, ask, run
from test_decode_graph import adapted, batch_of, crowd

from bench.gpu import exactness
from bench.shared.hit_qa import held_out
from compare.engine.local import LocalEngine
from compare.models import recordings
from lens.embedded import EMBEDDED_ADAPTER, EMBEDDED_BASE
from lens.gpu_memory import CONTEXT, gpu_memory

HOLD = "import sys, torch; held = torch.zeros(3 << 30, dtype=torch.uint8, device='cuda'); print(); sys.stdin.read()"

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")]


@pytest.mark.parametrize("family", ["bloom", "llama", "gemma3_text"])
def test_a_crowd_gets_the_eager_steps_answers_from_graphs(family):
    model, names = (MODEL, ("one", "two")) if family == "bloom" else (adapted(family), ("one",))
    model = copy.deepcopy(model).cuda()
    found = []
    for static in (False, None):
        batch = batch_of(model, static)
        found.append([answers(asked) for asked in crowd(batch, names)])
    assert batch.decode.state == "graphs" and len(batch.decode.shapes.kept) > 4
    assert found[0] == found[1]


def test_graphs_that_are_given_back_are_captured_anew_and_stay_right(monkeypatch):
    monkeypatch.setattr(recordings, "MOST", 1)
    model = copy.deepcopy(MODEL).cuda()
    batch, eager = batch_of(model), batch_of(model, static=False)
    found = []
    for one in (batch, eager):
        asked = [ask([4 + i, 5], VARIANTS[:1 + i], 30 + 9 * i) for i in range(4)]
        run(one, {i: [question] for i, question in enumerate(asked)})
        found.append([answers(question) for question in asked])
    assert found[0] == found[1] and batch.decode.state == "graphs"


def test_the_embedded_pair_gets_what_toggled_generate_gives():
    with LocalEngine(EMBEDDED_BASE, EMBEDDED_ADAPTER, "cuda", "float32") as engine:
        assert exactness(engine, held_out(6), exact=True)["same"] == 12
        assert engine.load().steps == "graphs"


def test_what_a_second_process_holds_is_seen():
    before = gpu_memory("cuda")
    other = subprocess.Popen([sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert other.stdout.readline() == b"\n"
        assert gpu_memory("cuda").others > max(before.others, CONTEXT) + (1 << 30)
    finally:
        other.stdin.close()
        other.wait()
