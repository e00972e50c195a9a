"""transformers' Trainer, changed in what an adapter's run needs: the order of rows, and checkpoints.

The order is a function of seed and epoch alone, and of rows a step in all: any number of processes
reads the same rows at the same step, and a resumed run reads on where it stood. Checkpoints appear
whole by one rename, and are read back without unpickling code.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainingArguments
from transformers.trainer_pt_utils import get_length_grouped_indices

from lens.adapter.write import PART, move_whole
from lens.base.loading import Compute
from lens.errors import BadSetting, first_line
from train.checkpoint import STATE, checkpoints, last_whole, load_adapter_weights, step_of
from train.data.encoded import IGNORED, EncodedRows
from train.loss import taught_places
from train.record.log import read_log
from train.resume import lower_rate
from train.settings import TrainSettings


def arguments(s: TrainSettings, compute: Compute, evaluate: bool) -> TrainingArguments:
    """Our settings in Trainer's words."""
    gpu = compute.device == "cuda"
    made = TrainingArguments(
        output_dir=s.output, max_steps=s.max_steps, per_device_train_batch_size=s.batch,
        per_device_eval_batch_size=max(s.batch, 8), gradient_accumulation_steps=s.gradient_accumulation,
        learning_rate=s.learning_rate, warmup_steps=s.warmup_steps, lr_scheduler_type=s.schedule,
        weight_decay=s.weight_decay, train_sampling_strategy="group_by_length", seed=s.seed,
        logging_steps=s.logging_steps, save_steps=s.save_steps, logging_nan_inf_filter=False,
        eval_strategy="steps" if evaluate else "no", eval_steps=s.eval_steps, prediction_loss_only=True,
        activation_checkpointing=s.activation_checkpointing,
        activation_checkpointing_kwargs={"use_reentrant": False} if s.activation_checkpointing else None,
        use_cpu=compute.device == "cpu", bf16=compute.dtype_name == "bfloat16", fp16=compute.dtype_name == "float16",
        include_num_input_tokens_seen="non_padding", remove_unused_columns=False, report_to=s.report_to,
        dataloader_pin_memory=gpu, accelerator_config={"non_blocking": gpu}, ddp_find_unused_parameters=False)
    made._n_gpu = min(made.n_gpu, 1)  # several GPUs are torchrun's business: never DataParallel
    return made


class Collator:
    """Pads a list of encoded rows on the right to (rows, longest) tensors; `taught`: where the loss is read
    (`taught_places`), so that no GPU has to look for it."""

    def __init__(self, pad_id: int):
        self.fill = {"input_ids": pad_id, "labels": IGNORED, "attention_mask": 0}

    def __call__(self, rows: list[dict]) -> dict:
        longest = max(len(row["input_ids"]) for row in rows)
        rows = [{**row, "attention_mask": [1] * len(row["input_ids"])} for row in rows]
        batch = {key: torch.tensor([row[key] + [fill] * (longest - len(row[key])) for row in rows])
                 for key, fill in self.fill.items()}
        return {**batch, "taught": taught_places(batch["labels"])}


class LengthOrder(torch.utils.data.Sampler):
    """Row numbers in batches of like length, shuffled by (seed, epoch); the last batch is filled from the first.

    `rows_a_step` counts all processes and accumulated batches, so every step has exactly that many rows.
    """

    def __init__(self, lengths: Sequence[int], rows_a_step: int, seed: int):
        self.lengths, self.rows_a_step, self.seed, self.epoch = list(lengths), rows_a_step, seed, 0

    def __len__(self) -> int:
        return -(-len(self.lengths) // self.rows_a_step) * self.rows_a_step

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 100_003 + self.epoch)
        order = get_length_grouped_indices(self.lengths, self.rows_a_step, generator=generator)
        self.order = [order[i % len(order)] for i in range(len(self))]
        return iter(self.order)

    def tokens(self, step: int) -> int:
        """How many a step of the run reads in all, `step` counted from 0; of the epoch that is being read."""
        first = step * self.rows_a_step % len(self)
        return sum(self.lengths[row] for row in self.order[first:first + self.rows_a_step])


class AdapterTrainer(Trainer):
    """`write_adapter` fills a directory with the adapter as it stands; `keep`: how many checkpoints stay whole, 0 for
    all; see the module's docstring."""

    train_dataset: EncodedRows
    order: LengthOrder  # since Trainer asked for its sampler, before the first epoch

    def __init__(self, *args, write_adapter: Callable[[Path], None], keep: int, **kwargs):
        super().__init__(*args, **kwargs)
        self.write_adapter, self.keep = write_adapter, keep

    @property
    def output(self) -> Path:
        return Path(self.args.output_dir)  # type: ignore[arg-type]  # never None: Trainer's arguments fill it in

    def _get_train_sampler(self, train_dataset=None) -> LengthOrder:
        rows = self.train_dataset if train_dataset is None else train_dataset
        step = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        self.order = LengthOrder(rows.cut_lengths(), step, self.args.seed)
        return self.order

    def _run_epoch(self, *args, **kwargs):
        self.order.epoch = kwargs["epoch"]
        return super()._run_epoch(*args, **kwargs)

    def _get_output_dir(self, trial) -> str:
        return str(self.output / PART)  # where `_save_checkpoint` writes before the rename

    def _save(self, output_dir=None, state_dict=None) -> None:
        if self.args.should_save:
            model = self.accelerator.unwrap_model(self.model)
            if not all(torch.isfinite(p).all() for p in model.parameters() if p.requires_grad):
                raise BadSetting("weights-not-finite", step=self.state.global_step,
                                 next=lower_rate(self.output, self.args.learning_rate))
            self.write_adapter(Path(output_dir))

    def _save_checkpoint(self, model, trial) -> None:
        step, part = self.state.global_step, self.output / PART
        with self.saying_what_failed():
            if self.args.should_save:
                shutil.rmtree(part, ignore_errors=True)
            self.accelerator.wait_for_everyone()
            super()._save_checkpoint(model, trial)
            self.accelerator.wait_for_everyone()  # every process's random state is in it
            if self.args.should_save:
                move_whole(part / f"checkpoint-{step}", self.output / f"checkpoint-{step}")
                shutil.rmtree(part, ignore_errors=True)
                prune(self.output, self.keep)
            self.accelerator.wait_for_everyone()

    def training_step(self, model, inputs, num_items_in_batch=None):
        loss = super().training_step(model, inputs, num_items_in_batch)
        if self.state.global_step == 0 and not torch.isfinite(loss):  # later ones are looked at where they are logged
            raise BadSetting("loss-not-finite-at-once", name="loss", value=loss.item())
        return loss

    def _track_num_input_tokens(self, inputs) -> None:
        """Counted from the rows' lengths: Trainer adds up each batch's mask where it is, and waits for the GPU."""
        if self.accelerator.sync_gradients:  # once a step, after its last batch
            self.state.num_input_tokens_seen += self.order.tokens(self.state.global_step)

    def _load_optimizer_and_scheduler(self, checkpoint) -> None:
        """A checkpoint's state, with the rate and weight decay of these settings: its own are those of its run."""
        optimizer: Any = self.optimizer
        schedule: Any = self.lr_scheduler
        decays, rate = [group["weight_decay"] for group in optimizer.param_groups], self.args.learning_rate
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is None:
            return
        schedule.base_lrs = [rate] * len(schedule.base_lrs)
        for group, decay, shape in zip(optimizer.param_groups, decays, schedule.lr_lambdas, strict=True):
            group.update(weight_decay=decay, initial_lr=rate, lr=rate * shape(schedule.last_epoch))
        schedule._last_lr = [group["lr"] for group in optimizer.param_groups]

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None) -> None:
        load_adapter_weights(self.model, Path(resume_from_checkpoint))

    @contextlib.contextmanager
    def saying_what_failed(self) -> Iterator[None]:
        """Turns a failed write into BadSetting with the last good checkpoint, and frees what was half written."""
        from safetensors import SafetensorError

        try:
            yield
        except (OSError, RuntimeError, SafetensorError) as err:  # torch.save raises RuntimeError on a full disk
            shutil.rmtree(self.output / PART, ignore_errors=True)
            raise could_not_write(self.output, self.state.global_step, err) from err


def prune(output: Path, keep: int) -> None:
    """Take what only going on needs out of all checkpoints but the newest `keep` and the best by held-out loss.

    The adapter in each stays: comparing, merging and the timeline read it.
    """
    found = checkpoints(output)
    losses = {r["step"]: r["eval_loss"] for r in read_log(output / "log.jsonl") if "eval_loss" in r}
    best = min((c for c in found if step_of(c) in losses), key=lambda c: losses[step_of(c)], default=None)
    for checkpoint in found[:-keep] if keep else []:
        if checkpoint != best:
            for file in (*(checkpoint / name for name in STATE), *checkpoint.glob("rng_state*.pth")):
                file.unlink(missing_ok=True)


def could_not_write(output: Path, step: int, err: Exception) -> BadSetting:
    """What to say of a write that failed, on a full disk for example."""
    known = {"step": step, "output": output, "reason": first_line(err)}
    if good := last_whole(output):
        return BadSetting("save-failed", good=good, **known)
    return BadSetting("save-failed-none-kept", **known)
