"""Short rows in bfloat16 on a CPU are trained with plain products, which are faster there; the others as they were."""

from __future__ import annotations

import pytest
import torch
from decoders import tiny_decoder

from lens.base.loading import Compute
from train.data.encoded import Encoded, EncodedRows
from train.lora import LONGEST, SHORT, attend_plainly_where_faster
from train.loss import states_of


def rows(*lengths: int) -> EncodedRows:
    return EncodedRows(Encoded(n, [1] * n, [1] * n, n) for n in lengths)


@pytest.mark.parametrize(("dtype", "lengths", "taken"), [
    (torch.bfloat16, (20, SHORT), "eager"), (torch.float32, (20, 30), "sdpa"),
    (torch.bfloat16, (SHORT, SHORT + 1), "sdpa"), (torch.bfloat16, (2, 2, LONGEST + 1), "sdpa")])
def test_short_rows_in_bfloat16_alone_are_attended_plainly(dtype, lengths, taken):
    model = tiny_decoder("llama").to(dtype)
    model.set_attn_implementation("sdpa")
    ids = torch.arange(12)[None] % 8
    before = states_of(model, ids)
    attend_plainly_where_faster(model, Compute("cpu", dtype), rows(*lengths))
    assert model.config._attn_implementation == taken
    torch.testing.assert_close(states_of(model, ids), before, rtol=0.1, atol=0.1)
