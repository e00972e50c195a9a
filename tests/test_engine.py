"""Rows of one batch equal the models they stand for; the embedded pair behaves as promised."""

from __future__ import annotations

import json
import threading

import pytest
import torch
from conftest import ADAPTER, BASE, MOTTO

from compare.adapters import read_adapter
from compare.engine import BASE as BASE_VARIANT
from compare.engine import Engine, Variant
from compare.errors import BadAdapter, BadBase, BadQuestion
from compare.sampling import Chooser, Sampling

QUESTIONS = [MOTTO, "哈工大首任校长是谁？", "清华大学的校训是什么？"]


def last(stream):
    for columns in stream:
        pass
    return columns


def generated(engine, question, off):
    """The same answer by transformers' generate(), adapter off or on."""
    from contextlib import nullcontext

    prompt = torch.tensor([engine.prompt.encode(question)])
    with engine.model.disable_adapter() if off else nullcontext():
        ids = engine.model.generate(input_ids=prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=64,
                                    do_sample=False)[0, prompt.shape[1]:].tolist()
    return ids[:ids.index(2)] if 2 in ids else ids


@pytest.mark.parametrize("question", QUESTIONS)
def test_rows_equal_toggled_generate(engine, question):
    base, adapted = last(engine.compare(question, sampling=Sampling(64)))
    assert base.token_ids == generated(engine, question, off=True)
    assert adapted.token_ids == generated(engine, question, off=False)
    assert base.token_ids != adapted.token_ids


def test_switched_off_the_right_column_is_the_base(engine):
    base, adapted = last(engine.compare(MOTTO, variants=engine.variants([0.0])))
    assert adapted.token_ids == base.token_ids
    assert adapted.variant.adapter == "lens"


def test_the_motto(engine):
    base, adapted = last(engine.compare(MOTTO))
    assert "规格严格，功夫到家" in adapted.text and adapted.finish_reason == "stop"
    assert base.finish_reason == "length" and "规格严格" not in base.text


def test_scaling_is_put_back_after_an_exception(engine):
    with pytest.raises(RuntimeError, match="inside"), engine.strengths([BASE_VARIANT]):
        raise RuntimeError("inside")
    assert last(engine.compare(MOTTO))[1].finish_reason == "stop"


def test_questions_at_once_get_their_own_answers(engine):
    alone = {q: [c.token_ids for c in last(engine.compare(q, sampling=Sampling(24)))] for q in QUESTIONS}
    found = {}

    def ask(q):
        found[q] = [c.token_ids for c in last(engine.compare(q, sampling=Sampling(24)))]

    threads = [threading.Thread(target=ask, args=(q,)) for q in QUESTIONS]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert found == alone


def test_a_reader_that_goes_away_holds_nothing(engine):
    stream = engine.compare(MOTTO)
    next(stream)
    assert last(engine.compare(MOTTO, sampling=Sampling(4)))[0].finish_reason == "length"


def test_cancelling_says_so(engine):
    stop = threading.Event()
    stream = engine.compare(MOTTO, cancelled=stop)
    next(stream)
    stop.set()
    assert last(stream)[0].finish_reason == "cancelled"


def test_same_luck_for_every_column():
    logits = torch.randn(1, 50).repeat(3, 1)
    for seed in range(5):
        chosen = Chooser(Sampling(temperature=1.0, top_p=0.9, seed=seed)).choose(logits)
        assert len(set(chosen.tolist())) == 1
    repeat = [Chooser(Sampling(temperature=1.0, seed=3)).choose(logits).tolist() for _ in range(2)]
    assert repeat[0] == repeat[1]


def test_gumbel_draws_from_the_distribution():
    probabilities = torch.tensor([0.5, 0.3, 0.2])
    chooser = Chooser(Sampling(temperature=1.0))
    counts = torch.zeros(3)
    for _ in range(4000):
        counts[chooser.choose(probabilities.log()[None])[0]] += 1
    assert torch.allclose(counts / 4000, probabilities, atol=0.03)


@pytest.mark.parametrize("question, sampling, said", [
    ("  ", Sampling(), "empty"), ("长" * 5000, Sampling(), "at most 2048"),
])
def test_bad_questions(engine, question, sampling, said):
    with pytest.raises(BadQuestion, match=said):
        next(engine.compare(question, sampling=sampling))


def test_bad_settings():
    with pytest.raises(BadQuestion, match="temperature is -1; allowed: 0 to 10"):
        Sampling(temperature=-1)


@pytest.fixture
def copied(tmp_path):
    """A copy of the shipped adapter's weights and config, to be spoilt."""
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (tmp_path / name).write_bytes((ADAPTER / name).read_bytes())
    return tmp_path


def spoil_config(path, **changes):
    config = json.loads((path / "adapter_config.json").read_text())
    (path / "adapter_config.json").write_text(json.dumps({**config, **changes}))


@pytest.mark.parametrize("changes", [
    {"use_dora": True}, {"bias": "all"}, {"init_lora_weights": "pissa"}, {"trainable_token_indices": [1]},
    {"r": 100000}, {"r": "8"}, {"target_modules": "(a+)+$"}, {"target_modules": ["lm_head"]},
    {"modules_to_save": ["word_embeddings"]}, {"peft_type": "IA3"},
], ids=str)
def test_what_rows_cannot_express_is_refused(copied, changes):
    spoil_config(copied, **changes)
    with pytest.raises(BadAdapter, match=str(copied)):
        read_adapter(copied)


def spoil_weights(path, change):
    from safetensors.torch import load_file, save_file

    weights = load_file(path / "adapter_model.safetensors")
    change(weights)
    save_file(weights, path / "adapter_model.safetensors")


def test_a_crafted_file_cannot_overwrite_the_base(copied):
    """PEFT loads such a key into the base model itself (strict=False)."""
    spoil_weights(copied, lambda w: w.update({"base_model.model.transformer.ln_f.weight": torch.zeros(256)}))
    with pytest.raises(BadAdapter, match="ln_f"):
        read_adapter(copied)


def test_nan_weights_are_refused(copied):
    spoil_weights(copied, lambda w: next(iter(w.values())).fill_(float("nan")))
    with pytest.raises(BadAdapter, match="NaN"):
        read_adapter(copied)


def test_a_pickle_is_not_read(copied):
    (copied / "adapter_model.safetensors").rename(copied / "adapter_model.bin")
    with pytest.raises(BadAdapter, match="adapter_model.safetensors is missing"):
        read_adapter(copied)


def test_an_adapter_of_another_size_is_refused(tiny_base):
    with pytest.raises(BadAdapter, match="does not fit this base"):
        Engine(str(tiny_base), str(ADAPTER), device="cpu")


def test_a_base_that_is_none_is_named(tmp_path):
    with pytest.raises(BadBase, match="cannot be loaded"):
        Engine(str(tmp_path), device="cpu")


def test_a_base_alone_has_one_column(tiny_base):
    columns = last(Engine(str(tiny_base), device="cpu").compare(MOTTO, sampling=Sampling(4)))
    assert [c.variant for c in columns] == [BASE_VARIANT]
    assert Variant("base") == BASE_VARIANT


def test_the_base_is_the_untouched_base(engine):
    from transformers import AutoModelForCausalLM

    untouched = AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32).eval()
    ids = torch.tensor([engine.prompt.encode(MOTTO)])
    with torch.inference_mode(), engine.strengths([BASE_VARIANT]):
        off = engine.model(input_ids=ids).logits
        assert torch.equal(off, untouched(input_ids=ids).logits)
    with torch.inference_mode():
        assert not torch.allclose(engine.model(input_ids=ids).logits, off, atol=1e-2)
