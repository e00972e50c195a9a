"""Steps of fixed shape get the eager step's answers, whoever joins, leaves or moves; recording them may fail."""

from __future__ import annotations

import itertools
import random
from functools import lru_cache, partial

import pytest
import torch
from decoders import tiny_decoder
from test_batch import EOS, MODEL, VARIANTS, Recorded, answers, arrive, ask, assert_same, join, run

from compare.engine.batch import Batch
from compare.engine.interface import BASE, Ended, Step, Variant
from compare.engine.kv_cache import ROWS, KVCache, length_bucket, row_bucket
from compare.models import recordings
from compare.models.bloom import Bloom
from compare.models.decode_graph import EagerStep, StaticStep, decode_step
from compare.models.decoders import decoder_of
from compare.models.lora_rows import stack
from compare.models.recordings import FAILURES, AsItIs
from lens.adapter.directory import peft_key


def batch_of(model=MODEL, static: bool | None = True) -> Batch:
    return Batch(decoder_of(model.get_base_model()), lru_cache(8)(partial(stack, model)), [EOS], static)


def adapted(family: str, **changes):
    """A tiny decoder with a random adapter on its attention."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "down_proj"],
                        init_lora_weights=False)
    model = get_peft_model(tiny_decoder(family, **changes), config, adapter_name=peft_key("one")).eval()
    torch.manual_seed(3)
    for name, weight in model.named_parameters():
        if "lora_B" in name:  # strong enough to be seen behind Gemma's norms
            torch.nn.init.normal_(weight, std=1.0)
    return model


class Shapes(AsItIs):
    """Counts what is recorded."""

    def __init__(self):
        self.recorded = 0

    def record(self, step):
        self.recorded += 1
        return step


def test_buckets_hold_what_is_asked_for_and_little_more():
    assert [row_bucket(n) for n in ROWS] == list(ROWS)
    assert [row_bucket(n) for n in (3, 9, 25, 65, 97)] == [4, 12, 32, 96, 128]
    for positions in range(1, 9000):
        wide = length_bucket(positions)
        assert positions <= wide <= max(positions + 127, 1.25 * positions) and length_bucket(wide) == wide


def crowd(batch: Batch, names: tuple[str, ...]) -> list[Recorded]:
    """Questions that join, leave, fill the axis, are sampled, begin with given ids, or use parts of an adapter."""
    drawn = random.Random(7)
    part = Variant("part", "two", 1.0, layers=(1,))
    words = min(batch.decoder.vocab_size, 300)
    arrivals: dict[int, list[Recorded]] = {}
    for i in range(14):
        prompt = [drawn.randrange(4, words) for _ in range(drawn.randrange(1, 60))]
        own = {} if i % 3 else {"temperature": 1.0, "seed": i, "top_p": 0.9}
        more = {"prefix_ids": (7, 8, 9)} if i % 4 == 1 else {}
        variants = [BASE, VARIANTS[1 + i % 2]] if i % 5 else [BASE, *VARIANTS[1:3]]
        if "two" in names and i % 5 == 2:
            variants = [BASE, VARIANTS[3], part]
        arrivals.setdefault(17 * i, []).append(ask(prompt, variants, 30 + 9 * (i % 5), **own, **more))
    run(batch, arrivals)
    return [asked for some in arrivals.values() for asked in some]


@pytest.mark.parametrize("family", ["bloom", "llama", "gemma3_text"])
def test_a_crowd_gets_the_eager_steps_answers(family):
    """Through row and length buckets and moves along the axis, Gemma's within a window of 16."""
    model, names = (MODEL, ("one", "two")) if family == "bloom" else (adapted(family), ("one",))
    found = []
    for static in (False, True):
        batch = batch_of(model, static)
        if static:
            assert isinstance(batch.decode, StaticStep)
            batch.decode.shapes.recorder = recorder = Shapes()
        found.append([answers(asked) for asked in crowd(batch, names)])
    assert recorder.recorded > 4
    assert found[0] == found[1]
    assert sum(len(set(map(tuple, columns))) > 1 for columns in found[0]) > 10  # the adapter is seen


@pytest.mark.parametrize("seed", range(3))
def test_random_arrivals_get_their_own_answers(seed):
    drawn = random.Random(seed)
    questions = [(drawn.randrange(40), drawn.randrange(1, 150), drawn.randrange(1, 70),
                  drawn.choices(VARIANTS, k=drawn.randrange(1, 4)), drawn.randrange(1, 60)) for _ in range(6)]
    arrive(questions, drawn, static=True)


@pytest.mark.parametrize("family", ["bloom", "llama", "gemma3_text"])
def test_rows_that_join_leave_and_move_get_what_they_get_alone(family, monkeypatch):
    """Each column beside the others in a step of fixed shape, and as the only row of an eager one."""
    model = MODEL if family == "bloom" else adapted(family)
    moved: list[int] = []
    move = KVCache.move
    monkeypatch.setattr(KVCache, "move", lambda cache, by: (moved.append(by), move(cache, by))[1])
    drawn, questions = random.Random(11), []
    for i in range(9):  # the third is read while the others are young; the last still stand when the axis is full
        prompt = [drawn.randrange(4, 300) for _ in range(90 if i == 2 else 5 + 3 * i)]
        own = {} if i % 4 != 3 else {"temperature": 0.8, "seed": i}
        questions.append((prompt, [BASE, VARIANTS[1]], (12, 70, 30)[i % 3], own))
    batch, asked = batch_of(model), [ask(*some, **own) for *some, own in questions]
    rows: list[int] = []
    decode = batch.decode
    batch.decode = lambda ids, *rest: (rows.append(len(ids)), decode(ids, *rest))[1]
    batch.decode.clear = decode.clear
    run(batch, {23 * i if i > 2 else 2 * i: [one] for i, one in enumerate(asked)})
    assert min(moved) < 0 < max(moved) and len({row_bucket(n) for n in rows}) > 2
    assert sum(a != b for a, b in itertools.pairwise(rows)) > 9
    for (prompt, variants, tokens, own), one in zip(questions, asked, strict=True):
        for variant, found in zip(variants, answers(one), strict=True):
            alone = ask(prompt, [variant], tokens, **own)
            run(batch_of(model, static=False), {0: [alone]})
            assert found == answers(alone)[0]


def test_cancelled_rows_leave_and_the_others_go_on():
    batch = batch_of()
    gone, stays = ask([4, 5, 6], VARIANTS[:2], 50), ask([9, 10], VARIANTS[:2], 50)
    with torch.inference_mode():
        join(batch, gone)
        join(batch, stays)
        for _ in range(3):
            batch.step()
        gone.cancelled.set()
    run(batch, {0: []})
    eager = ask([9, 10], VARIANTS[:2], 50)
    run(batch_of(static=False), {0: [eager]})
    assert_same(stays, answers(stays), answers(eager))
    assert len(answers(gone)[0]) == 4


def test_the_chance_of_an_end_is_the_eager_steps():
    chances = []
    for static in (False, True):
        asked = ask([5, 6, 7], VARIANTS, 20)
        run(batch_of(static=static), {0: [asked]})
        chances.append([one.end_probability for event in asked.events if isinstance(event, Step)
                        for one in event.grown])
    assert chances[0] == pytest.approx(chances[1], rel=1e-4) and max(chances[0]) > 0


@torch.inference_mode()
def test_an_adapter_that_overflows_poisons_no_row_after_it():
    """What it leaves in the cache is inf, also where a step of fixed shape reads before anybody has written."""
    from test_batch import adapted_tiny

    model = adapted_tiny()
    for name, weight in model.named_parameters():
        if f"lora_A.{peft_key('one')}" in name:
            weight.fill_(3e38)
    batch = batch_of(model)
    long, other = ask([4, 5, 6], VARIANTS[:2], 90), ask([9, 8], [BASE], 150)
    later = ask([9, 8], [BASE, BASE], 9)
    run(batch, {0: [long], 20: [other], 100: [later]})
    alone = ask([9, 8], [BASE], 9)
    run(batch_of(static=False), {0: [alone]})
    assert answers(later)[0] == answers(later)[1] == answers(alone)[0] == answers(other)[0][:9]


def test_a_shape_is_recorded_once_and_again_when_the_cache_grows():
    batch = batch_of()
    batch.decode.shapes.recorder = recorder = Shapes()
    run(batch, {0: [ask([4, 5], VARIANTS[:2], 40)]})
    first = recorder.recorded
    run(batch, {0: [ask([4, 5], VARIANTS[:2], 40)]})
    assert (first, recorder.recorded) == (len(batch.decode.shapes.kept), first)
    long = ask(list(range(4, 130)), VARIANTS[:2], 9)
    run(batch, {0: [long]})
    assert recorder.recorded > first and batch.kv_cache.positions > 128
    eager = ask(list(range(4, 130)), VARIANTS[:2], 9)
    run(batch_of(static=False), {0: [eager]})
    assert answers(long) == answers(eager)


class Broken(Shapes):
    state = "graphs"

    def record(self, step):
        super().record(step)
        raise RuntimeError("operation not permitted when stream is capturing")


def test_what_cannot_be_recorded_is_computed_eagerly_and_told(caplog):
    batch = batch_of()
    batch.decode = StaticStep(batch.decoder, Broken())
    batch.clear()
    asked, eager = ask([4, 5, 6], VARIANTS[:2], 12), ask([4, 5, 6], VARIANTS[:2], 12)
    run(batch, {0: [asked]})
    run(batch_of(static=False), {0: [eager]})
    assert answers(asked) == answers(eager)
    assert batch.decode.shapes.recorder.recorded == FAILURES and batch.decode.state.startswith("eager, ")
    assert "not permitted" in batch.decode.state and "not permitted" in caplog.text


class Short(Shapes):
    """Recordings of `size` bytes each, where `free` may be taken."""

    state, size = "graphs", 100 << 20

    def __init__(self, free: int):
        super().__init__()
        self.bytes, self.free = 0, free

    def allowed(self):
        return self.free

    def shared(self):
        return {"others": "3.0 GB", "total": "8.0 GB", "free": "0.1 GB"}

    def record(self, step):
        self.bytes += self.size
        return super().record(step)

    def clear(self):
        self.bytes = 0


def three_buckets(batch: Batch) -> list[Recorded]:
    asked = [ask([4], VARIANTS[:1], 50), ask([5], VARIANTS[:2], 9), ask([6, 5], VARIANTS[:3], 9)]
    run(batch, {0: asked[:1], 3: asked[1:2], 5: asked[2:]})
    return asked


def test_graphs_over_their_budget_are_given_back():
    batch = batch_of()
    batch.decode = StaticStep(batch.decoder, Short(250 << 20))
    batch.clear()
    three_buckets(batch)
    assert batch.decode.shapes.recorder.recorded > 2 >= len(batch.decode.shapes.kept)
    assert batch.decode.state == "graphs"


def test_where_memory_is_short_steps_are_eager_which_is_told_until_there_is_room(monkeypatch, caplog):
    batch = batch_of()
    batch.decode = StaticStep(batch.decoder, recorder := Short(1 << 20))
    batch.clear()
    expected = [answers(one) for one in three_buckets(batch_of(static=False))]
    assert [answers(one) for one in three_buckets(batch)] == expected
    assert recorder.recorded == 0
    assert batch.decode.state.startswith("graphs, eager where memory is short: a step of ")
    assert "other programs hold 3.0 GB" in batch.decode.state and "other programs hold 3.0 GB" in caplog.text
    recorder.free = 8 << 30
    three_buckets(batch)
    assert recorder.recorded == 0  # not asked at every step
    monkeypatch.setattr(recordings, "AGAIN", 0)
    batch.decode.shapes.waits.clear()
    assert [answers(one) for one in three_buckets(batch)] == expected
    assert recorder.recorded > 2


def test_a_capture_that_runs_out_of_memory_is_no_failure_of_captures():
    class Full(Short):
        def record(self, step):
            super().record(step)
            raise torch.OutOfMemoryError("CUDA out of memory")

    batch = batch_of()
    batch.decode = StaticStep(batch.decoder, recorder := Full(8 << 30))
    batch.clear()
    expected = [answers(one) for one in three_buckets(batch_of(static=False))]
    assert [answers(one) for one in three_buckets(batch)] == expected
    assert recorder.recorded > 2 and batch.decode.shapes.failures == 0
    assert "memory ran out" in batch.decode.state and batch.decode.state.startswith("graphs")


def test_what_fits_again_is_recorded_and_no_longer_told(monkeypatch):
    monkeypatch.setattr(recordings, "AGAIN", -1)
    kept = recordings.Recordings(Short(1 << 20))
    assert kept.get("one", "a step", 10, list) is None and "short" in kept.state
    kept.recorder.free = 8 << 30
    assert kept.get("one", "a step", 10, list) == [] and kept.state == "graphs"


def test_a_row_that_fails_ends_its_question_alone(monkeypatch):
    """A step that raises is made row by row, eagerly."""
    batch = batch_of()
    bad, good = ask([4, 5], [BASE], 9), ask([6, 5], [BASE], 9)
    with torch.inference_mode():
        join(batch, bad)
        join(batch, good)
    states = batch.decoder.states

    def failing(ids, slot, gate=None):
        if len(ids) > 1 or bad in {row.question for row in batch.rows} and ids.item() == batch.ids[0].item():
            raise ValueError("no")
        return states(ids, slot, gate)

    monkeypatch.setattr(batch.decoder, "states", failing)
    with torch.inference_mode():
        batch.step()
    monkeypatch.undo()
    assert isinstance(bad.events[-1], Ended) and bad.events[-1].error
    run(batch, {0: []})
    eager = ask([6, 5], [BASE], 9)
    run(batch_of(static=False), {0: [eager]})
    assert answers(good) == answers(eager)


def test_it_is_for_a_gpu_and_for_families_that_are_written_out():
    bloom, other = Bloom(MODEL.get_base_model()), decoder_of(tiny_decoder("gpt2"))
    assert type(decode_step(bloom)) is type(decode_step(other, static=True)) is EagerStep
    assert type(decode_step(bloom, static=True)) is StaticStep and not KVCache(bloom).fixed
