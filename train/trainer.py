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

import torch
from transformers import Trainer
from transformers.trainer_pt_utils import get_length_grouped_indices

from lens.adapter_write import PART, move_whole
from lens.errors import BadInput, first_line
from train.checkpoint import last_whole, load_adapter_weights
from train.data.encoded import IGNORED, EncodedRows


class Collator:
    """Pads a list of encoded rows on the right to (rows, longest) tensors."""

    def __init__(self, pad_id: int):
        self.fill = {"input_ids": pad_id, "labels": IGNORED, "attention_mask": 0}

    def __call__(self, rows: list[dict]) -> dict:
        longest = max(len(row["input_ids"]) for row in rows)
        rows = [{**row, "attention_mask": [1] * len(row["input_ids"])} for row in rows]
        return {key: torch.tensor([row[key] + [fill] * (longest - len(row[key])) for row in rows])
                for key, fill in self.fill.items()}


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
        return (order[i % len(order)] for i in range(len(self)))


class AdapterTrainer(Trainer):
    """`write_adapter` fills a directory with the adapter as it stands; see the module's docstring."""

    train_dataset: EncodedRows
    order: LengthOrder  # since Trainer asked for its sampler, before the first epoch

    def __init__(self, *args, write_adapter: Callable[[Path], None], **kwargs):
        super().__init__(*args, **kwargs)
        self.write_adapter = write_adapter

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
            self.accelerator.wait_for_everyone()

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None) -> None:
        load_adapter_weights(self.model, Path(resume_from_checkpoint))

    @contextlib.contextmanager
    def saying_what_failed(self) -> Iterator[None]:
        """Turns a failed write into BadInput with the last good checkpoint, and frees what was half written."""
        from safetensors import SafetensorError

        try:
            yield
        except (OSError, RuntimeError, SafetensorError) as err:  # torch.save raises RuntimeError on a full disk
            shutil.rmtree(self.output / PART, ignore_errors=True)
            raise BadInput(could_not_write(self.output, self.state.global_step, err)) from err


def could_not_write(output: Path, step: int, err: Exception) -> str:
    """The sentence for a write that failed, on a full disk for example."""
    good = last_whole(output)
    kept = f"the last good checkpoint is {good}; mend that, then the same command with --resume goes on from there" \
        if good else "there is no checkpoint yet; mend that and start again"
    return f"saving step {step} in {output} failed ({first_line(err)}); {kept}"
