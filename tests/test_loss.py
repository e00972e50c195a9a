"""The gathered loss equals the full-logits loss in value and gradient."""

from __future__ import annotations

import pytest
import torch
from conftest import tiny_bloom

from train import loss
from train.data.encoded import IGNORED
from train.lora import attach_lora


def batch() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    ids = torch.randint(4, 8000, (4, 30))
    labels = ids.clone()
    labels[:, :12] = IGNORED
    mask = torch.ones_like(ids)
    labels[1, 20:], mask[1, 20:] = IGNORED, 0
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def gradients(model) -> dict[str, torch.Tensor]:
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("chunk", [7, 256])
@pytest.mark.parametrize("items", [None, 37])
def test_equal_to_full_logits(monkeypatch, chunk, items):
    monkeypatch.setattr(loss, "CHUNK", chunk)
    model = attach_lora(tiny_bloom(), r=4, lora_alpha=4, lora_dropout=0.0, target_modules=["query_key_value"])
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.05)
    full = model(**batch(), num_items_in_batch=items).loss
    full.backward()
    expected = gradients(model)
    model.zero_grad()
    loss.teach_answers_only(model.get_base_model())
    found = model(**batch(), num_items_in_batch=items)
    found.loss.backward()
    assert not hasattr(found, "logits") or found.logits is None
    assert torch.allclose(found.loss, full, atol=1e-4)
    assert expected and expected.keys() == gradients(model).keys()
    for name, gradient in gradients(model).items():
        assert torch.allclose(gradient, expected[name], atol=1e-4), name
    with loss.answering(model):
        assert model(**batch()).logits.shape == (4, 30, 8064)


def cast_each_time(states, targets, weight):
    """The loss's forward as it was when autocast cast the head for every product: (sum, gradient of the states)."""
    total, gradient = torch.zeros(()), torch.empty_like(states)
    for part, goal, into in zip(*(t.split(loss.CHUNK) for t in (states, targets, gradient)), strict=True):
        logits, goal = torch.nn.functional.linear(part, weight).float(), goal[:, None]
        norm = logits.logsumexp(-1, keepdim=True)
        total += (norm - logits.gather(-1, goal)).sum()
        chances = (logits - norm).exp().scatter_add_(-1, goal, torch.full(goal.shape, -1.0))
        into.copy_(chances.to(weight.dtype) @ weight)
    return total, gradient


@pytest.mark.parametrize("autocast", [False, True])
def test_the_head_is_cast_once_and_every_bit_stays(autocast):
    torch.manual_seed(2)
    states, weight = torch.randn(150, 32, requires_grad=True), torch.randn(500, 32)
    targets = torch.randint(0, 500, (150,))
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        total, gradient = cast_each_time(states.detach(), targets, weight)
        found = loss.CrossEntropy.apply(states, targets, loss.Head(weight))
    found.backward()
    assert torch.equal(found, total) and torch.equal(states.grad, gradient)


def test_a_batch_that_teaches_nothing_still_has_a_gradient():
    model = tiny_bloom()
    loss.teach_answers_only(model)
    ids = torch.randint(4, 8000, (1, 5))
    value = model(input_ids=ids, labels=torch.full_like(ids, IGNORED)).loss
    value.backward()
    assert value.item() == 0.0


def test_a_model_in_training_answers_with_its_own_forward_and_goes_on_as_before():
    model = attach_lora(tiny_bloom(), r=4, lora_alpha=4, lora_dropout=0.5, target_modules=["query_key_value"])
    expected = model.eval()(**batch()).logits
    loss.teach_answers_only(model.get_base_model())
    model.train()
    with loss.answering(model):
        assert torch.equal(model(**batch()).logits, expected)
        assert not model.training
    assert model.training and model(**batch()).loss.requires_grad and "logits" not in model(**batch())
    with pytest.raises(ZeroDivisionError), loss.answering(model):
        _ = 1 / 0
    assert "logits" not in model(**batch())
