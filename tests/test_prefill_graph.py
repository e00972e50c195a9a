"""Prompts read in a fixed shape get the keys, values and states of the eager way; what cannot be recorded is eager."""

from __future__ import annotations

import pytest
import torch
from test_batch import BASE, MODEL, VARIANTS, answers, ask, join, run
from test_decode_graph import Broken, Shapes, Short, adapted, batch_of

from compare.models.prefill_graph import LONGEST, StaticPrefill
from compare.models.recordings import FAILURES


@pytest.mark.parametrize("family", ["bloom", "llama", "gemma3_text"])
@torch.inference_mode()
def test_prompts_are_read_as_the_eager_way_reads_them(family):
    """Shorter ones after longer ones, fewer after more, in the same shapes; Gemma's within a window of 16."""
    model = MODEL if family == "bloom" else adapted(family)
    batch = batch_of(model)
    decoder, static = batch.decoder, StaticPrefill(batch.decoder, recorder := Shapes())
    drawn = torch.Generator().manual_seed(5)
    for rows, length in ((2, 120), (2, 9), (1, 70), (1, 1), (3, 128), (4, 30), (2, 200), (2, 129)):
        ids = torch.randint(4, 300, (rows, length), generator=drawn)
        gate = batch.stack_of(("one",)).gate([VARIANTS[i % 2] for i in range(rows)]) if length != 30 else None
        cache = decoder.new_cache(rows, length)
        states = decoder.read_chunk(ids, gate, cache, 0)[:, -1]
        (keys, values), last = static(ids, gate)
        for found, expected in ((keys, cache.keys), (values, cache.values), (last, states)):
            assert found.shape == expected.shape and torch.allclose(found, expected, atol=1e-5)
        assert torch.equal(decoder.logits(last).argmax(-1), decoder.logits(states).argmax(-1))
    assert recorder.recorded == len(static.shapes.kept) == 5
    for rows, length in ((1, LONGEST + 1), (3, 200), (12, 100)):
        assert static(torch.zeros((rows, length), dtype=torch.long), None) is None


def test_columns_of_one_shape_and_several_lengths_do_not_overwrite_one_another():
    """Both of a question's prompts stay until it joins, though they are read in the same place."""
    found = []
    for static in (True, False):
        asked = ask([5, 6, 7], [BASE, VARIANTS[1], BASE], 12, {0: [9, 8, 7, 6, 5], 2: list(range(20, 90))})
        run(batch_of(static=static), {0: [asked]})
        found.append(answers(asked))
    assert found[0] == found[1] and len(set(map(tuple, found[0]))) == 3


def test_what_is_read_in_a_fixed_shape_is_used_and_freed():
    batch = batch_of()
    batch.whole = StaticPrefill(batch.decoder, recorder := Shapes())
    with torch.inference_mode():
        join(batch, ask([4, 5], VARIANTS[:2], 3))
        join(batch, ask([4, 5, 6], VARIANTS[:2], 3))
    assert recorder.recorded == len(batch.whole.shapes.kept) == 1
    batch.clear()
    assert not batch.whole.shapes.kept and batch.whole.place is None


@pytest.mark.parametrize("recorder, said", [(Broken(), "not permitted"),
                                            (Short(1 << 20), "memory is short: reading 2")])
def test_where_prompts_cannot_be_recorded_they_are_read_eagerly_and_steps_go_on(recorder, said):
    batch = batch_of()
    batch.whole = StaticPrefill(batch.decoder, recorder)
    asked = [ask([4 + i, 5, 6], VARIANTS[:2], 12) for i in range(5)]
    eager = [ask([4 + i, 5, 6], VARIANTS[:2], 12) for i in range(5)]
    run(batch, {3 * i: [one] for i, one in enumerate(asked)})
    run(batch_of(static=False), {3 * i: [one] for i, one in enumerate(eager)})
    assert [answers(one) for one in asked] == [answers(one) for one in eager]
    assert batch.decode.state == "static" and batch.steps.startswith("static; prompts: ") and said in batch.steps
    assert recorder.recorded == (FAILURES if said == "not permitted" else 0)
    assert batch_of().steps == "static" and batch_of(static=False).steps == "eager"
