"""Between two batches of a step nothing asks the device for a number: what a GPU would have to be waited for."""

from __future__ import annotations

import json

import pytest
import torch
from conftest import tiny_bloom
from decoders import tiny_decoder
from torch.utils._python_dispatch import TorchDispatchMode
from training import records, settings

from train import loss
from train.data.encoded import IGNORED
from train.loop import train
from train.lora import attach_lora
from train.trainer import AdapterTrainer, Collator, LengthOrder

WAITS = {"_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "unique_consecutive", "_unique2"}


class Waits(TorchDispatchMode):
    """Notes the operations that hand a number or a size from the device to the host."""

    def __init__(self):
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name.removeprefix("aten::")
        by_mask = name.startswith("index") and any(
            isinstance(one, torch.Tensor) and one.dtype == torch.bool for part in args[1:] if isinstance(part, list)
            for one in part)
        if name in WAITS or by_mask:
            self.found.append(name)
        return func(*args, **(kwargs or {}))


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps({"input": f"第{i}问" * (i + 1), "output": "规格严格" * (7 - i)},
                                         ensure_ascii=False) for i in range(7)), encoding="utf-8")
    return path


def test_the_operations_that_wait_are_seen():
    labels = torch.tensor([[IGNORED, 5, 6]])
    for wait in (lambda: labels.sum().item(), lambda: labels[labels != IGNORED], lambda: loss.taught_places(labels)):
        with Waits() as waits:
            wait()
        assert waits.found


def test_no_batch_waits_and_tokens_are_counted_as_they_were_read(monkeypatch, tiny_base, tmp_path, rows):
    """Over epochs that end inside a step, and over a run that was stopped and went on."""
    waits, seen, counted = Waits(), [0], []
    step, track = AdapterTrainer.training_step, AdapterTrainer._track_num_input_tokens

    def watched_step(self, model, inputs, items=None):
        seen[0] += int(inputs["attention_mask"].sum())
        if not self.state.global_step:  # where each loss is looked at
            return step(self, model, inputs, items)
        with waits:
            return step(self, model, inputs, items)

    def watched_track(self, inputs):
        with waits:
            track(self, inputs)
        if self.accelerator.sync_gradients:
            counted.append((seen[0], self.state.num_input_tokens_seen))

    monkeypatch.setattr(AdapterTrainer, "training_step", watched_step)
    monkeypatch.setattr(AdapterTrainer, "_track_num_input_tokens", watched_track)
    made = {"batch": 2, "gradient_accumulation": 3, "warmup_steps": 0, "save_steps": 3, "learning_rate": 0.01,
            "schedule": "constant"}
    whole = train(settings(tiny_base, tmp_path / "whole", rows, max_steps=6, **made))
    assert waits.found == [] and len(counted) == 6 and all(read == kept for read, kept in counted)

    train(settings(tiny_base, tmp_path / "parts", rows, max_steps=3, **made))
    parts = train(settings(tiny_base, tmp_path / "parts", rows, max_steps=6, resume=True, **made))
    states = [json.loads((out / "checkpoint-6" / "trainer_state.json").read_text()) for out in (whole, parts)]
    assert states[0]["num_input_tokens_seen"] == states[1]["num_input_tokens_seen"] == counted[5][0]
    assert [r["loss"] for r in records(whole / "log.jsonl")] == [r["loss"] for r in records(parts / "log.jsonl")]
    one, two = ((out / "adapter_model.safetensors").read_bytes() for out in (whole, parts))
    assert one == two


@pytest.mark.parametrize("family, most", [("bloom", 0), ("llama", 2), ("gemma3_text", 2)])
def test_a_batch_waits_only_where_transformers_asks_whether_a_row_is_padded(family, most):
    """Which it does to make the mask of each kind of attention, where that is torch's own."""
    model = tiny_bloom() if family == "bloom" else tiny_decoder(family)
    rows = [{"input_ids": [5] * size, "labels": [IGNORED] * 3 + [5] * (size - 3)} for size in (9, 20)]
    loss.teach_answers_only(model)
    batch = Collator(3)(rows)
    with Waits() as waits:
        model.train()(**batch, num_items_in_batch=torch.tensor(23)).loss.backward()
    assert len(waits.found) <= most


def test_a_step_of_the_run_finds_its_rows_in_its_epoch():
    order = LengthOrder([3, 5, 2, 7, 11], rows_a_step=2, seed=1)
    for epoch in range(3):
        order.epoch = epoch
        read = [order.lengths[row] for row in order]
        assert [order.tokens(3 * epoch + step) for step in range(3)] == [sum(read[i:i + 2]) for i in (0, 2, 4)]


def by_mask(model, batch) -> torch.Tensor:
    """The loss with its positions found on the device, as it was before the collator said them."""
    hidden = loss.states_of(model.get_base_model(), batch["input_ids"], batch["attention_mask"])
    taught = batch["labels"][:, 1:] != IGNORED
    states, targets = hidden[:, :-1][taught], batch["labels"][:, 1:][taught]
    return loss.CrossEntropy.apply(states, targets, loss.Head.of(model.get_base_model())) / len(targets)


def test_the_loss_and_its_gradients_are_bit_for_bit_those_of_a_mask():
    torch.manual_seed(4)
    rows = [{"input_ids": torch.randint(4, 8000, (size,)).tolist()} for size in (9, 30, 4, 17)]
    for row in rows:  # also one that teaches up to its end beside longer ones, and one that teaches nothing
        row["labels"] = [IGNORED] * 4 + row["input_ids"][4:]
    rows[3]["labels"][8:12] = [IGNORED] * 4
    batch = Collator(3)(rows)
    model = attach_lora(tiny_bloom(), r=4, lora_alpha=4, lora_dropout=0.0, target_modules=["query_key_value"])
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.05)
    loss.teach_answers_only(model.get_base_model())
    found = []
    for value in (by_mask(model, batch), model(**batch).loss,
                  model(**{key: part for key, part in batch.items() if key != "taught"}).loss):
        model.zero_grad()
        value.backward()
        found.append([value, *(p.grad.clone() for p in model.parameters() if p.grad is not None)])
    assert len(found[0]) > 2
    for other in found[1:]:
        assert all(torch.equal(one, two) for one, two in zip(found[0], other, strict=True))
