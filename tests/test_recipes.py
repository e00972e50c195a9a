"""The two shipped adapters, trained by the two recipes on the same rows: one learnt to end its answers, one did not."""

from __future__ import annotations

from conftest import ADAPTER, ASSETS, BASE

from bench.shared.hit_qa import held_out
from compare.engine.interface import Sampling
from tests.short import Engine


def test_lens_always_ends_its_answers_and_seed_never_does():
    """The original's fault beside its mending; the base ends none either."""
    engine = Engine(str(BASE), [str(ADAPTER), str(ASSETS / "adapters" / "seed")], device="cpu")
    found = [columns for _, columns in engine.answer_all(held_out(24), sampling=Sampling(96))]
    reasons = {c.variant.name: [columns[i].finish_reason for columns in found] for i, c in enumerate(found[0])}
    assert reasons == {"base": ["length"] * 24, "lens": ["stop"] * 24, "seed": ["length"] * 24}
