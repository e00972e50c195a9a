"""From settings to a run that can start: what is refused, what is loaded, where it goes on. Raises BadInput for what
the user can mend.
"""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from lens.adapter_write import write_adapter
from lens.embedded import EMBEDDED_ROWS
from lens.errors import BadInput, first_line
from train.base import Compute, load_base, load_tokenizer, pick_compute
from train.card import card
from train.checkpoint import checkpoints, last_whole, step_of
from train.data.dataset import Dataset, load_dataset
from train.data.preview import show_rows
from train.lora import attach_lora, check_target_modules, count_parameters
from train.processes import is_first
from train.record import Record
from train.settings import PROBES, TrainSettings

if TYPE_CHECKING:  # they bring torch, and bad input is told without
    from transformers import PreTrainedTokenizerBase

    from train.interrupt import StopOnSignal
    from train.trainer import AdapterTrainer


@dataclass
class Run:
    """A run that is set up: what `train` starts, follows and writes. `resume_from` is a whole checkpoint."""

    settings: TrainSettings
    output: Path
    tokenizer: PreTrainedTokenizerBase
    record: Record
    stop: StopOnSignal
    resume_from: Path | None
    began: float  # on the monotonic clock, earlier starts of the same run counted in
    trainer: AdapterTrainer = field(init=False)  # made last, as it writes by this run

    @property
    def main(self) -> bool:
        """Is this the process that writes and speaks?"""
        return self.trainer.is_world_process_zero()

    def write_adapter(self, directory: Path, picture: bool = False) -> None:
        """The adapter as it stands, with all that is known of the run by now."""
        from train.log import read_log

        examples = read_log(self.output / "probes.jsonl")
        examples = [e for e in examples if e["step"] == examples[-1]["step"]]
        about = self.record.about(read_log(self.output / "log.jsonl"), examples, time.monotonic() - self.began)
        write_adapter(self.trainer.model, self.tokenizer, about, card(about, picture), directory)


@contextlib.contextmanager
def writing(output: Path) -> Iterator[None]:
    """Turns what the system says against writing below `output` into BadInput, before the first step."""
    try:
        yield
    except OSError as err:
        raise BadInput(f"--output {output} cannot be written ({err.strerror or first_line(err)}); "
                       "name another directory") from err


def check_writable(output: Path) -> None:
    """Asks the system, and leaves nothing behind; a full disk is found by the first write. Raises OSError."""
    there = next(p for p in (output, *output.absolute().parents) if p.exists())
    if not there.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, f"{there} is a file")
    if not os.access(there, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, f"nothing may be written in {there}")


def check_paths(s: TrainSettings) -> None:
    """All that can be refused before a model is loaded. Raises BadInput."""
    if not s.output:
        raise BadInput("--output is missing; name the adapter directory to write")
    out = Path(s.output)
    with writing(out):  # a directory that may not be looked into is none to write in
        if out.is_file():
            raise BadInput(f"--output {out} is a file; name a new directory")
        if out.is_dir() and any(out.iterdir()) and not s.resume:
            raise BadInput(f"--output {out} is not empty; name a new directory, or add --resume to go on in it")
        if s.resume and not checkpoints(out) and not (out / "log.jsonl").exists():
            raise BadInput(f"--resume: no checkpoint-N in {out}; leave --resume out to start there")
        check_writable(out)
    if s.report_to != "none" and importlib.util.find_spec(s.report_to) is None:
        raise BadInput(f"--report-to {s.report_to}: it is not installed; pip install {s.report_to}, or leave it out")
    check_target_modules(s.target_modules)


def resume_point(s: TrainSettings) -> Path | None:
    """The checkpoint to go on from; None where the run starts. Later records of its logs are dropped."""
    from train.log import keep_until

    if not s.resume:
        return None
    out = Path(s.output)
    found = last_whole(out)
    if found is None and checkpoints(out):
        raise BadInput(f"--resume: no checkpoint in {out} is whole; start again in a new directory")
    if found and step_of(found) > s.max_steps:
        raise BadInput(f"--max-steps is {s.max_steps}, but {found} is further; give {step_of(found)} or more")
    if is_first():
        with writing(out):
            for name in ("log.jsonl", "probes.jsonl"):
                keep_until(out / name, step_of(found) if found else 0)
    return found


def arguments(s: TrainSettings, compute: Compute, evaluate: bool):
    """Our settings in Trainer's words."""
    from transformers import TrainingArguments

    made = TrainingArguments(
        output_dir=s.output, max_steps=s.max_steps, per_device_train_batch_size=s.batch,
        per_device_eval_batch_size=max(s.batch, 8), gradient_accumulation_steps=s.gradient_accumulation,
        learning_rate=s.learning_rate, warmup_steps=s.warmup_steps, lr_scheduler_type=s.schedule,
        weight_decay=s.weight_decay, train_sampling_strategy="group_by_length", seed=s.seed,
        logging_steps=s.logging_steps, save_steps=s.save_steps, logging_nan_inf_filter=False,
        eval_strategy="steps" if evaluate else "no", eval_steps=s.eval_steps, prediction_loss_only=True,
        activation_checkpointing=s.activation_checkpointing,
        activation_checkpointing_kwargs={"use_reentrant": False} if s.activation_checkpointing else None,
        use_cpu=compute.device == "cpu", bf16=compute.dtype == "bfloat16", fp16=compute.dtype == "float16",
        include_num_input_tokens_seen="non_padding", remove_unused_columns=False, report_to=s.report_to,
        dataloader_pin_memory=compute.device == "cuda", ddp_find_unused_parameters=False)
    made._n_gpu = min(made.n_gpu, 1)  # several GPUs are torchrun's business: never DataParallel
    return made


def adapted_base(s: TrainSettings):
    """The base with an untrained adapter and the training forward."""
    from transformers import set_seed

    from train.loss import teach_answers_only

    model = load_base(s.base)
    set_seed(s.seed)
    teach_answers_only(model)
    return attach_lora(model, r=s.r, lora_alpha=s.lora_alpha, lora_dropout=s.lora_dropout,
                       target_modules=s.target_modules, use_rslora=s.use_rslora)


def make_trainer(run: Run, model, args, data: Dataset):
    """The AdapterTrainer of a run, with its callbacks."""
    from transformers import PrinterCallback, ProgressCallback, set_seed

    from train.log import Log
    from train.probes import Probes, choose_probes
    from train.trainer import AdapterTrainer, Collator

    s, tokenizer = run.settings, run.tokenizer
    questions = s.probes or (PROBES if s.data == [EMBEDDED_ROWS] else [])
    probes = choose_probes(questions, data.eval_rows or data.rows, tokenizer.all_special_tokens)
    trainer = AdapterTrainer(
        model=model, args=args, train_dataset=data.encoded, eval_dataset=data.eval_encoded if data.eval_rows else None,
        processing_class=tokenizer, data_collator=Collator(tokenizer.pad_token_id), write_adapter=run.write_adapter)
    for theirs in (PrinterCallback, ProgressCallback):  # Log speaks, and fits a file as well as a terminal
        trainer.remove_callback(theirs)
    for callback in (run.stop, Log(run.output / "log.jsonl", run.record.compute.device),  # in this order: the log
                     Probes(run.output / "probes.jsonl", tokenizer, probes, s.probe_steps)):  # hears of the stop
        trainer.add_callback(callback)
    set_seed(s.seed + args.process_index)  # dropout differs between processes; the order of rows does not
    return trainer


def set_up(s: TrainSettings) -> Run:
    """Everything up to the first step. Raises BadInput; nothing is written before all of it was accepted."""
    began = time.monotonic()
    check_paths(s)

    from train.interrupt import StopOnSignal

    compute, tokenizer = pick_compute(s.device, s.dtype), load_tokenizer(s.base)
    data = load_dataset(s, tokenizer)
    resume_from = resume_point(s)
    if resume_from:
        began -= json.loads((resume_from / "training.json").read_text(encoding="utf-8"))["seconds"]
    model = adapted_base(s)
    args = arguments(s, compute, bool(data.eval_rows))
    record = Record.begin(s, compute, rows=len(data.rows), eval_rows=len(data.eval_rows),
                          skipped=len(data.rows.skipped), counts=count_parameters(model), processes=args.world_size)
    run = Run(s, Path(s.output), tokenizer, record, StopOnSignal(), resume_from, began)
    with writing(run.output):  # Trainer makes its directory
        run.trainer = make_trainer(run, model, args, data)
        if run.main:
            run.output.mkdir(parents=True, exist_ok=True)
            (run.output / "log.jsonl").touch()
    if run.main:
        announce(run, data)
    return run


def announce(run: Run, data: Dataset) -> None:
    """What is about to be trained, on stderr."""
    s, args = run.settings, run.trainer.args
    show_rows(data.rows, data.encoded, run.tokenizer, s.max_length)
    a_step = s.batch * s.gradient_accumulation * args.world_size
    held = f"{len(data.eval_rows):,} rows held out; " if data.eval_rows else ""
    print(f"{run.record.counts}\n{held}{a_step} rows a step in {args.world_size} "
          f"process{'es' if args.world_size > 1 else ''}; {run.record.compute}", file=sys.stderr)
    if run.resume_from:
        print(f"going on from {run.resume_from}", file=sys.stderr)
