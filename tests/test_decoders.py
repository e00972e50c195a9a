"""Every family: rows of one running batch get what transformers and PEFT alone give, token for token, in float32."""

from __future__ import annotations

import copy
import gc
import random

import pytest
import torch
from test_batch import EOS, Recorded, answers, ask, run

from compare.analysis.token_scores import log_likelihoods
from compare.engine.batch import Batch
from compare.engine.interface import BASE, GivenAnswer, Variant
from compare.models.bloom import Bloom
from compare.models.decoders import decoder_of
from compare.models.general import General
from compare.models.loaded_model import LoadedModel
from compare.models.lora_rows import stack
from compare.models.rotary import Rotary
from lens.adapter.directory import peft_key, read_adapter
from lens.adapter.fit import Fit
from lens.base.linear_layers import describe
from lens.base.loading import Base
from lens.errors import BadAdapter, BadBase
from tests.decoders import tiny_decoder

ONE = Variant.of("one")
SCALED = {"rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 64}


def rope(kind: str, **more) -> dict:
    return {"rope_parameters": {"rope_type": kind, **SCALED, **more}}


def rope_by_kind(**kinds: dict) -> dict:
    """Each kind of layer's own, as Gemma 3 has them."""
    return {"rope_parameters": {kind: said["rope_parameters"] for kind, said in kinds.items()}}


FAST = {
    "llama": {}, "llama tied, one head of keys": {"tie_word_embeddings": True, "num_key_value_heads": 1},
    "llama with biases": {"attention_bias": True, "mlp_bias": True}, "llama linear": rope("linear"),
    "llama dynamic": rope("dynamic"), "llama llama3": rope("llama3", low_freq_factor=1.0, high_freq_factor=4.0),
    "llama yarn": rope("yarn"), "internlm3 with biases": {"attention_bias": True, "mlp_bias": True},
    "mistral": {"sliding_window": 9, "head_dim": 16}, "qwen2": {},
    "qwen2 in windows": {"use_sliding_window": True, "sliding_window": 9, "max_window_layers": 1},
    "qwen3": {"num_key_value_heads": 4}, "gemma": {"head_dim": 16}, "gemma2": {"sliding_window": 9},
    "gemma2 capped": {"sliding_window": 9, "final_logit_softcapping": 7.0, "attn_logit_softcapping": 3.0},
    "gemma3_text": {"sliding_window": 9, "query_pre_attn_scalar": 11},
    "gemma3_text scaled by kind": rope_by_kind(full_attention=rope("yarn"), sliding_attention=rope("linear")),
    "bloom": {}}
GENERAL = {
    "gpt2": {}, "gpt_neox": {}, "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32}, "phi": {}, "falcon": {},
    "stablelm": {}, "olmo2": {}, "mixtral": {"num_local_experts": 4}}
QUICK = ["llama yarn", "mistral", "qwen2 in windows", "qwen3", "gemma2", "gemma3_text", "gemma3_text scaled by kind",
         "bloom", "gpt2", "falcon"]


def adapted(case: str):
    """A tiny random model, its distributions made sharp, with an adapter made by plain PEFT on all linear layers."""
    from peft import LoraConfig, get_peft_model

    model = tiny_decoder(case.split()[0], **{**FAST, **GENERAL}[case])
    for parameter in model.parameters():
        if parameter.dim() == 1:  # biases and norms, which begin as 0 and 1
            torch.nn.init.normal_(parameter, parameter.mean().item(), 0.1)
    with torch.no_grad():  # the last norm, by about four
        [module for module in model.base_model.modules() if "Norm" in type(module).__name__][-1].weight.add_(3)
    layers = ["q_proj", "v_proj"] if case == "mixtral" else "all-linear"
    config = LoraConfig(task_type="CAUSAL_LM", r=3, lora_alpha=6, target_modules=layers, init_lora_weights=False)
    model = get_peft_model(model, config, adapter_name=peft_key("one"))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.2)
    return model.eval().requires_grad_(False)


def generated(model, prompt: list[int], tokens: int) -> list[int]:
    ids = torch.tensor([prompt])
    found = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=tokens,
                           eos_token_id=EOS, pad_token_id=0)
    return [token for token in found[0, len(prompt):].tolist() if token != EOS]


def by_peft(model, prompt: list[int], tokens: int) -> list[list[int]]:
    """The adapter off, then on."""
    with model.disable_adapter():
        off = generated(model, prompt, tokens)
    return [off, generated(model, prompt, tokens)]


def batch_of(model) -> Batch:
    return Batch(decoder_of(model.get_base_model()), lambda names: stack(model, names), [EOS])


def hold(case: str, prompts: int, longest: int, one_call: bool = False) -> None:
    """Prompts of mixed lengths join late and leave early, and each gets its own answers. `one_call`: with attention as
    on a GPU."""
    luck, model = random.Random(case), adapted(case)
    asked = [([luck.randrange(3, 320) for _ in range(luck.choice([1, 2, 5, 17, 40, 90]))], luck.randint(2, longest))
             for _ in range(prompts)]
    right = [by_peft(model, *one) for one in asked]
    assert any(off != on for off, on in right)
    questions = [ask(prompt, [BASE, ONE], tokens) for prompt, tokens in asked]
    arrivals: dict[int, list[Recorded]] = {}
    for question in questions:
        arrivals.setdefault(luck.randint(0, 3 * prompts), []).append(question)
    batch = batch_of(model)
    if one_call:
        batch.decoder.one_call = True
    assert type(batch.decoder) is (General if case in GENERAL else Bloom if case == "bloom" else Rotary)
    run(batch, arrivals)
    assert [answers(question) for question in questions] == right


@pytest.mark.parametrize("case", QUICK)
def test_rows_get_what_generate_gives(case):
    hold(case, prompts=4, longest=14)


@pytest.mark.slow
@pytest.mark.parametrize("case", [*FAST, *GENERAL])
def test_many_rows_get_what_generate_gives(case):
    hold(case, prompts=20, longest=48)


@pytest.mark.parametrize("case", [*FAST, *GENERAL])
@torch.inference_mode()
def test_scores_are_a_plain_forwards(case):
    """Of whole sequences, which are read in pieces; with the adapter's own strength, and half of it on attention."""
    model, ids = adapted(case), torch.randint(3, 320, (1, 50), generator=torch.Generator().manual_seed(3))
    with model.disable_adapter():
        off = model(input_ids=ids).logits[0]
    on = model(input_ids=ids).logits[0]
    for name, layer in model.named_modules():
        if hasattr(layer, "lora_A"):
            layer.scaling[peft_key("one")] *= 0.5 if "attn" in name or "attention" in name else 0.0
    half = model(input_ids=ids).logits[0]
    for layer in model.modules():
        if hasattr(layer, "lora_A"):
            layer.scaling[peft_key("one")] = 2.0
    batch = batch_of(model)
    gate = batch.stack_of(("one",)).gate([BASE, ONE, Variant.of("one", 0.5, modules=("attention",))])
    found = batch.decoder.logits(batch.decoder.read(ids.expand(3, -1), gate, chunk=11))
    assert (off - on).abs().max() > 0.1 and (half - on).abs().max() > 0.1
    for row, right in zip(found, (off, on, half), strict=True):
        assert (row - right).abs().max() < 2e-5 * right.abs().max()
    beside, alone = (batch.decoder.read(ids.expand(3, -1), which, chunk=11)[0] for which in (gate, None))
    # an expert of a mixture multiplies whatever tokens come to it at once: how many there are decides how it sums
    assert torch.equal(beside, alone) or case == "mixtral"


@pytest.mark.parametrize("case", ["llama", "qwen3", "gemma3_text", "gpt2"])
@torch.inference_mode()
def test_in_bfloat16_they_part_only_where_rounding_decides(case):
    model, prompt = adapted(case).to(torch.bfloat16), [250, 3, 90, 44, 8, 160]
    right = by_peft(model, prompt, 24)
    assert right[0] != right[1]
    batch, question = batch_of(model), ask(prompt, [BASE, ONE], 24)
    run(batch, {0: [question]})
    gate = batch.stack_of(("one",)).gate([BASE, ONE])
    for row, (found, wanted) in enumerate(zip(answers(question), right, strict=True)):
        if found == wanted:
            continue
        at = next((i for i, pair in enumerate(zip(found, wanted, strict=False)) if pair[0] != pair[1]),
                  min(len(found), len(wanted)))
        ids = torch.tensor([prompt + wanted[:at]])
        logits = batch.decoder.logits(batch.decoder.read(ids.expand(2, -1), gate)[:, -1])[row]
        said = [answer[at] if at < len(answer) else EOS for answer in (found, wanted)]
        # 2.6 at most over 12 prompts of twelve cases; 28 at least here where the adapter is left out
        assert logits.max() - logits[said].min() < 4 * torch.finfo(torch.bfloat16).eps * logits.abs().max()


@pytest.mark.parametrize("case", ["llama", "gemma3_text", "gpt2"])
@torch.inference_mode()
def test_a_base_of_another_family_is_loaded_and_scored(case, tokenizer, tmp_path):
    """Answers of several lengths at once, the longest read in two pieces; the adapter off and on."""
    model = adapted(case)
    model.save_pretrained(tmp_path, save_embedding_layers=False)
    base = copy.deepcopy(model).unload()
    files = read_adapter((tmp_path / peft_key("one")).rename(tmp_path / "one"), Fit("tiny", describe(base)))
    loaded = LoadedModel("tiny", Base("tiny", None, base, tokenizer, "cpu", torch.float32), {"one": files})
    assert loaded.shape.n_head == 4 and loaded.decoder.window == 256 and loaded.ends == (2,)

    def likelihood(prompt: list[int], answer: list[int]) -> float:
        log = model(input_ids=torch.tensor([prompt + answer])).logits[0].log_softmax(-1)
        return sum(log[len(prompt) - 1 + i, token].item() for i, token in enumerate(answer))

    texts = [([5, 6, 7], [8, 9, 2]), ([4] * 9, [*range(40, 60), 2])]
    on = [likelihood(*text) for text in texts]
    with model.disable_adapter():
        off = [likelihood(*text) for text in texts]
    found = log_likelihoods(loaded, [GivenAnswer(*text, variant) for variant in (BASE, ONE) for text in texts])
    assert found == pytest.approx([*off, *on], abs=1e-3) and all(abs(a - b) > 0.1 for a, b in zip(off, on, strict=True))


def test_all_of_several_ends_end_an_answer():
    """`generation_config` may name more than one; their probabilities add up."""
    model = adapted("llama")
    whole = by_peft(model, [4, 5, 6], 12)[0]
    batch = batch_of(model)
    batch.ends = [EOS, whole[5]]
    question = ask([4, 5, 6], [BASE], 12)
    run(batch, {0: [question]})
    assert answers(question)[0] == whole[:whole.index(whole[5])]
    last = question.events[-2].grown[0]
    assert last.finish_reason == "stop" and last.end_probability > 0.1


def test_what_cannot_be_held_exactly_is_refused():
    from transformers import AutoConfig, AutoModelForCausalLM

    mamba = AutoModelForCausalLM.from_config(AutoConfig.for_model("mamba", vocab_size=99, hidden_size=16,
                                                                  num_hidden_layers=2))
    recurrent = tiny_decoder("recurrent_gemma", lru_width=32, attention_window_size=16)
    for model, code in ((mamba, "base-keeps-no-keys"), (recurrent, "base-keeps-no-keys"),
                        (tiny_decoder("falcon", alibi=True), "base-alibi-not-by-rows")):
        with pytest.raises(BadBase) as caught:
            decoder_of(model.eval())
        assert caught.value.code == code and model.config.model_type in str(caught.value)


@pytest.mark.parametrize("case, layers", [("qwen3", ["q_proj", "lm_head"]), ("mixtral", ["q_proj", "gate"])])
def test_an_adapter_on_what_rows_do_not_all_pass_is_refused(case, layers):
    """The head is in no block; a mixture's router sends each token to experts of its own."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=layers)
    model = get_peft_model(tiny_decoder(case, tie_word_embeddings=False), config, adapter_name=peft_key("one"))
    with pytest.raises(BadAdapter, match=layers[1]) as caught:
        stack(model, ["one"])
    assert caught.value.code == "adapter-layer-not-by-rows"


def test_hooks_go_with_their_object():
    model = tiny_decoder("gpt2")
    hooked = lambda: sum(len(module._forward_hooks) for module in model.modules())  # noqa: E731
    decoder = decoder_of(model)
    assert hooked() == 8
    del decoder
    gc.collect()
    assert hooked() == 0
