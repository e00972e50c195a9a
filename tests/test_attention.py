"""Attention in one call, as on a GPU: the answers of attention written out, and of transformers."""

from __future__ import annotations

import pytest
import torch
from decoders import tiny_decoder
from test_batch import MODEL, answers
from test_decode_graph import adapted, batch_of, crowd
from test_decoders import hold

from compare.models.architecture import Slot
from compare.models.bloom import Bloom
from compare.models.decoders import decoder_of

FAMILIES = ["bloom", "llama tied, one head of keys", "llama dynamic", "qwen2 in windows", "gemma3_text"]
FAR = 1800  # positions, where bfloat16 tells no two neighbours apart


@pytest.mark.parametrize("case", FAMILIES)
def test_rows_get_what_generate_gives(case):
    hold(case, prompts=4, longest=14, one_call=True)


@pytest.mark.parametrize("family", ["bloom", "gemma3_text"])
def test_a_step_of_fixed_shape_gets_the_written_out_steps_answers(family):
    model, names = (MODEL, ("one", "two")) if family == "bloom" else (adapted(family), ("one",))
    found = []
    for one_call in (False, True):
        batch = batch_of(model, static=one_call)
        assert batch.decoder.one_call is False  # on a processor it is not asked for
        batch.decoder.one_call = one_call
        found.append([answers(asked) for asked in crowd(batch, names)])
    assert found[0] == found[1]


@pytest.mark.parametrize("family, one_call", [("bloom", True), ("llama", True), ("gemma2", False)])
def test_it_is_for_a_gpu_and_for_scores_without_a_cap(family, one_call):
    model = tiny_decoder(family, **({"attn_logit_softcapping": 3.0} if family == "gemma2" else {}))
    assert decoder_of(model).one_call is False  # a processor has no launches to save
    assert decoder_of(model.to("meta")).one_call is one_call


@torch.inference_mode()
def test_alibi_in_bfloat16_counts_from_now():
    """Counted from the row's start, as transformers does, two neighbours far from it have the same bias."""
    model = tiny_decoder("bloom")
    ids = torch.randint(3, 300, (1, FAR), generator=torch.Generator().manual_seed(1))
    right = Bloom(model).read(ids)[:, -200:]
    rounded = {name: decoder(model.bfloat16()) for name, decoder in
               (("written out", Bloom), ("one call", Bloom), ("from the start", FromTheStart))}
    rounded["one call"].one_call = rounded["from the start"].one_call = True
    error = {name: (decoder.read(ids)[:, -200:].float() - right).norm() / right.norm()
             for name, decoder in rounded.items()}
    assert error["one call"] < 1.2 * error["written out"] < error["from the start"] / 2


class FromTheStart(Bloom):
    def prepare(self, slot: Slot) -> Slot:
        return slot._replace(bias=self.mask(slot.bias))
