"""The running batch: rows that come and go at random get the answers they would get alone."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import pytest
import torch
from conftest import tiny_bloom
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compare.engine import queue as queue_module
from compare.engine.batch import Batch
from compare.engine.interface import BASE, PLAIN, Continuation, EngineEvent, Sampling, Step, Variant
from compare.engine.open_question import OpenQuestion
from compare.engine.queue import LONG, QuestionQueue
from compare.models.bloom import Bloom
from compare.models.lora_rows import stack
from lens.adapter.directory import peft_key

EOS, NEAR_TIE = 2, 1e-4


def adapted_tiny(**changes):
    """A tiny BLOOM with two random adapters of different rank and modules."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(1)
    one = LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, target_modules=["query_key_value"],
                     init_lora_weights=False)
    two = LoraConfig(task_type="CAUSAL_LM", r=3, lora_alpha=3, use_rslora=True, init_lora_weights=False,
                     target_modules=["dense", "dense_4h_to_h", "query_key_value", "dense_h_to_4h"])
    model = get_peft_model(tiny_bloom(**changes), one, adapter_name=peft_key("one"))
    model.add_adapter(peft_key("two"), two)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.2)
    return model.eval()


MODEL = adapted_tiny()
VARIANTS = [BASE, Variant("one", "one", 1.0), Variant("one@-0.5", "one", -0.5), Variant("two", "two", 2.0)]


@pytest.fixture
def batch():
    return Batch(Bloom(MODEL.get_base_model()), lambda names: stack(MODEL, names), [EOS])


def reference(variant: Variant, ids: torch.Tensor) -> torch.Tensor:
    """(length, vocabulary) logits by transformers and PEFT, the adapter's own scaling changed by hand."""
    if not variant.adapter:
        with torch.inference_mode(), MODEL.disable_adapter():
            return MODEL(input_ids=ids[None]).logits[0]
    key = peft_key(variant.adapter)
    MODEL.set_adapter(key, inference_mode=True)
    layers = [m for m in MODEL.modules() if key in getattr(m, "scaling", {})]
    before = [layer.scaling[key] for layer in layers]
    for layer, scale in zip(layers, before, strict=True):
        layer.scaling[key] = scale * variant.strength
    with torch.inference_mode():
        logits = MODEL(input_ids=ids[None]).logits[0]
    for layer, scale in zip(layers, before, strict=True):
        layer.scaling[key] = scale
    return logits


class Recorded(OpenQuestion):
    """A question that keeps what it is told."""

    def __init__(self, prompts, variants, sampling):
        self.events: list[EngineEvent] = []
        super().__init__(prompts, variants, sampling, self.events.append)


def ask(prompt, variants, tokens, own: dict | None = None, **sampling) -> Recorded:
    """A question; `own`: the prompts of columns that are asked with another one."""
    prompts = [(own or {}).get(column, prompt) for column in range(len(variants))]
    return Recorded(prompts, variants, (Continuation if "prefix_ids" in sampling else Sampling)(tokens, **sampling))


def answers(done: Recorded) -> list[list[int]]:
    """What each column of a finished question got."""
    found: list[list[int]] = [[] for _ in done.variants]
    for grown in (grown for event in done.events if isinstance(event, Step) for grown in event.grown):
        found[grown.column] += [grown.token] if grown.token is not None else []
    return found


def join(batch: Batch, question: OpenQuestion) -> None:
    """Read a question and let it in at once."""
    prefill = batch.prefill(question)
    while prefill.advance():
        pass
    batch.enter(prefill)


@torch.inference_mode()
def run(batch: Batch, arrivals: dict[int, list[Recorded]]) -> None:
    """Steps until all are done; at each step, first let in who arrives."""
    step = 0
    while batch.rows or step <= max(arrivals):
        for new in arrivals.get(step, []):
            join(batch, new)
        batch.step()
        step += 1


def test_every_row_has_its_own_models_logits(batch):
    ids = torch.randint(4, 8000, (12,), generator=torch.Generator().manual_seed(5))
    with torch.inference_mode():
        states = batch.decoder.read(ids.repeat(4, 1), batch.stack_of(("one", "two")).gate(VARIANTS), chunk=5)
        found = batch.decoder.logits(states)
    expected = [reference(v, ids) for v in VARIANTS]
    assert (expected[0] - expected[1]).abs().max() > 0.1 and (expected[1] - expected[3]).abs().max() > 0.1
    for logits, right in zip(found, expected, strict=True):
        assert torch.allclose(logits, right, atol=2e-4)


@torch.inference_mode()
def test_the_base_row_is_bit_for_bit_the_same_beside_an_adapter(batch):
    ids = torch.randint(4, 8000, (2, 12), generator=torch.Generator().manual_seed(6)).expand(2, -1)
    ids = ids[:1].repeat(2, 1)
    alone = batch.decoder.read(ids)
    beside = batch.decoder.read(ids, batch.stack_of(("one",)).gate(VARIANTS[:2]))
    assert not torch.allclose(beside[1], alone[1], atol=1e-3)
    assert torch.equal(beside[0], alone[0])


@torch.inference_mode()
def test_an_adapter_that_overflows_does_not_reach_the_base_row():
    """0 × inf is NaN: a gate that multiplies instead of masking would poison every row."""
    model = adapted_tiny()
    for name, weight in model.named_parameters():
        if f"lora_A.{peft_key('one')}" in name:
            weight.fill_(3e38)
    batch = Batch(Bloom(model.get_base_model()), lambda names: stack(model, names), [EOS])
    ids = torch.tensor([[4, 5, 6, 7]]).repeat(2, 1)
    states = batch.decoder.read(ids, batch.stack_of(("one",)).gate(VARIANTS[:2]))
    assert not states[1].isfinite().all()
    assert torch.equal(states[0], batch.decoder.read(ids)[0])
    done, later = ask([4, 5, 6], VARIANTS[:2], 9), ask([9, 8], [BASE] * 2, 9)
    run(batch, {0: [done], 12: [later]})
    assert answers(later)[0] == answers(ask_alone([9, 8], [BASE], 9))[0]


def ask_alone(prompt, variants, tokens, own: dict | None = None, **sampling) -> Recorded:
    """The same question in a batch of its own."""
    alone = ask(prompt, variants, tokens, own, **sampling)
    run(Batch(Bloom(MODEL.get_base_model()), lambda names: stack(MODEL, names), [EOS]), {0: [alone]})
    return alone


def assert_same(asked: Recorded, found: list[list[int]], expected: list[list[int]]) -> None:
    """Equal, or parted where the two best logits lie within 1e-4."""
    for variant, prompt, got, right in zip(asked.variants, asked.prompts, found, expected, strict=True):
        if got == right:
            continue
        at = next(i for i, (a, b) in enumerate(zip(got + [-1], right + [-1], strict=False)) if a != b)
        best = reference(variant, torch.tensor(prompt + right[:at]))[-1].topk(2).values
        assert best[0] - best[1] < NEAR_TIE, (variant, at)


QUESTIONS = st.tuples(st.integers(0, 40), st.integers(1, 60), st.integers(1, 70),
                      st.lists(st.sampled_from(VARIANTS), min_size=1, max_size=3), st.integers(1, 60))


ARRIVALS = given(st.lists(QUESTIONS, min_size=1, max_size=6), st.randoms(use_true_random=False))


@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@ARRIVALS
def test_random_arrivals_get_their_own_answers(questions, random):
    arrive(questions, random)


@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@ARRIVALS
def test_many_random_arrivals_get_their_own_answers(questions, random):
    arrive(questions, random)


def each_alone(asked: Recorded) -> list[list[int]]:
    """What each column gets as the only row of a batch."""
    return [answers(ask_alone(prompt, [variant], asked.sampling.max_new_tokens))[0]
            for prompt, variant in zip(asked.prompts, asked.variants, strict=True)]


def arrive(questions, random, static: bool = False) -> None:
    batch = Batch(Bloom(MODEL.get_base_model()), lambda names: stack(MODEL, names), [EOS], static)
    arrivals: dict[int, list[Recorded]] = {}
    for at, length, tokens, variants, other in questions:
        prompt, plain = ([random.randrange(4, 8000) for _ in range(n)] for n in (length, other))
        own = {len(variants): plain}
        arrivals.setdefault(at, []).append(ask(prompt, [*variants, PLAIN], tokens, own))
    run(batch, arrivals)
    assert not batch.rows and not batch.kv_cache.starts
    for asked in (a for some in arrivals.values() for a in some):
        assert_same(asked, answers(asked), each_alone(asked))


def test_a_full_axis_is_rolled_back(batch):
    """Questions that overlap for longer than the axis: it moves, and does not grow without end."""
    asked = [ask([10 + i, 20, 30], [BASE, VARIANTS[1]], 60) for i in range(12)]
    run(batch, {40 * i: [a] for i, a in enumerate(asked)})
    assert batch.kv_cache.positions <= 256
    for one in asked:
        assert_same(one, answers(one), answers(ask_alone(one.prompts[0], one.variants, 60)))


def test_a_long_prompt_moves_the_young_to_the_right(batch):
    young, long = ask([7, 8], VARIANTS[:2], 30), ask(list(range(100, 190)), VARIANTS[:2], 30)
    run(batch, {0: [young], 5: [long]})
    for one in (young, long):
        assert_same(one, answers(one), answers(ask_alone(one.prompts[0], one.variants, 30)))


def test_way_is_made_for_a_long_prompt_before_it_is_read_and_the_young_go_on(batch):
    young, long = ask([7, 8], VARIANTS[:2], 40), ask(list(range(100, 400)), VARIANTS[:2], 10)
    with torch.inference_mode():
        join(batch, young)
        batch.step()
        prefill = batch.prefill(long)
        assert prefill.advance() and prefill.left == 2 * 300 and batch.kv_cache.now == 300  # moved, nothing read
        room = batch.kv_cache.cache.keys.data_ptr()
        for part in batch.kv_cache.cache:  # as what a former row left may be
            part[:, 2:] = part[..., :min(batch.kv_cache.starts), :] = float("inf")
        while prefill.advance():
            batch.step()
        batch.enter(prefill)
    assert batch.kv_cache.cache.keys.data_ptr() == room  # so laying in had nothing to make
    run(batch, {0: []})
    for one in (young, long):
        assert_same(one, answers(one), each_alone(one))


def test_a_long_prompt_is_laid_in_in_a_turn_of_its_own(monkeypatch):
    """Or a running answer waits for a chunk, the laying in and a step: with a window of 2,048 up to 215 ms."""
    loaded = SimpleNamespace(decoder=Bloom(MODEL.get_base_model()), ends=[EOS], stack_of=partial(stack, MODEL))
    queue = QuestionQueue(loaded, 8, lambda names, in_use: None)
    monkeypatch.setattr(queue_module, "READING", 3600)  # seconds: everything in one turn, if it may
    asked = [ask([7, 8], [BASE], 40), ask(list(range(100, 100 + LONG + 1)), [BASE], 9), ask([9], [BASE], 9)]
    turns = []
    for one in asked:
        queue.waiting.append(one)
        queue.work()
        turns.append([row.question for row in queue.batch.rows])
    assert turns[:2] == [asked[:1], asked[:1]]  # all of the long one is read, and waits
    assert set(turns[2]) == {asked[0], asked[1], asked[2]}
    while queue.work():
        pass
    for one in asked:
        assert_same(one, answers(one), each_alone(one))


def test_cancelled_rows_leave_and_the_others_go_on(batch):
    gone, stays = ask([4, 5, 6], VARIANTS[:2], 50), ask([9, 10], VARIANTS[:2], 50)
    with torch.inference_mode():
        join(batch, gone)
        join(batch, stays)
        batch.step()
        gone.cancelled.set()
        batch.step()
    assert {row.question for row in batch.rows} == {stays}
    run(batch, {0: []})
    assert_same(stays, answers(stays), answers(ask_alone([9, 10], VARIANTS[:2], 50)))


def test_one_luck_for_all_columns_however_crowded(batch):
    """Sampled answers depend on the seed alone, not on who else is in the batch."""
    hot = {"temperature": 1.0, "top_p": 0.9, "seed": 7}
    twins = ask([5, 6, 7], [BASE, BASE, VARIANTS[1]], 30, **hot)
    run(batch, {0: [ask([8], VARIANTS, 50), twins], 3: [ask([9, 9], VARIANTS, 20, temperature=0.5)]})
    found = answers(twins)
    assert found[0] == found[1] != found[2]
    assert found == answers(ask_alone([5, 6, 7], [BASE, BASE, VARIANTS[1]], 30, **hot))


def test_the_repetition_penalty_is_transformers_own(batch):
    asked = ask([5, 6, 7, 5], [BASE], 24, repetition_penalty=1.5)
    run(batch, {0: [asked]})
    ids = torch.tensor(asked.prompts)
    with MODEL.disable_adapter():
        right = MODEL.generate(input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False,
                               max_new_tokens=24, repetition_penalty=1.5)[0, 4:].tolist()
    assert answers(asked)[0] == [t for t in right if t != EOS]


def test_an_answer_stops_at_its_loop_only_when_asked_to():
    """A model whose next token is always the same loops from the start."""
    model = tiny_bloom()
    torch.nn.init.zeros_(model.transformer.ln_f.weight)
    model.transformer.ln_f.bias.data = model.transformer.word_embeddings.weight[77].detach().clone() * 5
    batch = Batch(Bloom(model), lambda names: None, [EOS])
    free, told = ask([4, 5], [BASE], 40), ask([4, 5], [BASE], 40, stop_at_loop=True)
    run(batch, {0: [free, told]})
    assert len(set(answers(free)[0])) == 1
    run(batch, {0: [told2 := ask([4, 5], [BASE], 40, stop_at_loop=True)]})
    assert len(answers(told2)[0]) == 24
