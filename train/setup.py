"""From settings to a run that can start: what is refused, what is loaded, where it goes on. Raises LensError for what
the user can mend.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import importlib.util
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from lens.adapter.directory import fit_of
from lens.adapter.write import write_adapter
from lens.base.files import find_base
from lens.embedded import EMBEDDED_ROWS
from lens.errors import BadBase, BadSetting, Note, first_line
from lens.processes import is_first, world_size
from train.checkpoint import checkpoints, load_adapter_weights, step_of
from train.data.dataset import Dataset, load_dataset
from train.data.encoded import EncodedRows
from train.data.forecast import CALM, Plan, about_machine, forecast
from train.data.preview import show_rows
from train.lora import Counts, attach_lora, attend_plainly_where_faster, target_modules
from train.record.card import card
from train.record.record import Record
from train.resume import Start, check_output, find_start, finished, lower_rate
from train.settings import OF_BASE, PROBES, TrainSettings

if TYPE_CHECKING:  # they bring torch, and bad input is told without
    from transformers import PreTrainedTokenizerBase

    from lens.base.files import BaseFiles
    from lens.base.loading import Compute
    from train.interrupt import StopOnSignal
    from train.trainer import AdapterTrainer


@dataclass
class Run:
    """A run that is set up: what `train` starts, follows and writes. `start` is where it begins."""

    settings: TrainSettings  # with --epochs turned into steps
    output: Path
    tokenizer: PreTrainedTokenizerBase
    record: Record
    stop: StopOnSignal
    start: Start
    began: float  # on the monotonic clock, earlier starts of the same run counted in
    end_ids: frozenset[int]  # each of which ends an answer
    trainer: AdapterTrainer = field(init=False)  # made last, as it writes by this run

    @property
    def main(self) -> bool:
        """Is this the process that writes and speaks?"""
        return self.trainer.is_world_process_zero()

    def write_adapter(self, directory: Path, picture: bool = False) -> None:
        """The adapter as it stands, with all that is known of the run by now."""
        from train.record.log import read_log

        examples = read_log(self.output / "probes.jsonl")
        examples = [e for e in examples if e["step"] == examples[-1]["step"]]
        about = self.record.about(read_log(self.output / "log.jsonl"), examples, time.monotonic() - self.began,
                                  self.trainer.state.global_step)
        write_adapter(self.trainer.model, self.tokenizer, about, card(about, picture), directory)


@contextlib.contextmanager
def writing(output: Path) -> Iterator[None]:
    """Turns what the system says against writing below `output` into BadSetting, before the first step."""
    try:
        yield
    except OSError as err:
        raise BadSetting("output-not-writable", output=output, reason=err.strerror or first_line(err)) from err


def check_writable(output: Path) -> None:
    """Tries it, with a file that has no name and is gone at once; a full disk is found by the first write. Raises
    OSError in the system's own words."""
    there = next(p for p in (output, *output.absolute().parents) if p.exists())
    if not there.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, f"{there} is a file")
    with tempfile.TemporaryFile(dir=there):
        pass


def check_paths(s: TrainSettings) -> None:
    """All that can be refused before a model is loaded. Raises BadSetting."""
    if not s.output:
        raise BadSetting("output-missing")
    out = Path(s.output)
    with writing(out):  # a directory that may not be looked into is none to write in
        check_output(s)
        check_writable(out)
    if s.report_to != "none" and importlib.util.find_spec(s.report_to) is None:
        raise BadSetting("report-not-installed", name=s.report_to)


def drop_later_records(out: Path, step: int) -> None:
    """A resumed run makes the records after its checkpoint again."""
    from train.record.log import keep_until

    if is_first():
        with writing(out):
            for name in ("log.jsonl", "probes.jsonl"):
                keep_until(out / name, step)


def chosen_compute(s: TrainSettings) -> Compute:
    """Where and in which dtype to train; float16, which the recipe `seed` asks for on GPUs, is float32 on a CPU."""
    from lens.base.loading import pick_compute

    at_hand = pick_compute(s.device, "auto")
    return at_hand if at_hand.device == "cpu" and s.dtype == "float16" else pick_compute(at_hand.device, s.dtype)


def adapted_base(s: TrainSettings, files: BaseFiles, compute: Compute, tokenizer, start: Start, rows: EncodedRows):
    """The frozen base, in the dtype that it computes in, with an adapter, untrained or `start`'s, and the training
    forward.

    PEFT keeps A and B in float32. Trainer moves it all to its device.
    """
    from transformers import set_seed

    from lens.base.loading import load_base
    from lens.cli import quiet_transformers
    from train.loss import teach_answers_only

    quiet_transformers()
    model = load_base(files, "cpu", compute.dtype_name, tokenizer).model
    set_seed(s.seed)
    attend_plainly_where_faster(model, compute, rows)
    teach_answers_only(model)
    adapted = attach_lora(model, r=s.r, lora_alpha=s.lora_alpha, lora_dropout=s.lora_dropout,
                          target_modules=s.target_modules, use_rslora=s.use_rslora)
    if start.adapter:
        load_adapter_weights(adapted, start.adapter.path)
    return adapted


def make_trainer(run: Run, model, args, data: Dataset):
    """The AdapterTrainer of a run, with its callbacks."""
    from transformers import PrinterCallback, ProgressCallback, set_seed

    from train.record.log import Log
    from train.record.probes import Probes, choose_probes
    from train.trainer import AdapterTrainer, Collator

    s, tokenizer = run.settings, run.tokenizer
    questions = s.probes or (PROBES if s.data == [EMBEDDED_ROWS] else [])
    probes = choose_probes(questions, data.eval_rows or data.rows)
    trainer = AdapterTrainer(
        model=model, args=args, train_dataset=data.encoded, eval_dataset=data.eval_encoded if data.eval_rows else None,
        processing_class=tokenizer, data_collator=Collator(tokenizer.pad_token_id or 0), keep=s.save_total_limit,
        write_adapter=run.write_adapter)
    for theirs in (PrinterCallback, ProgressCallback):  # Log speaks, and fits a file as well as a terminal
        trainer.remove_callback(theirs)
    log = Log(run.output / "log.jsonl", run.record.compute.device,
              lambda sound: astray(run.output, sound, s.learning_rate))
    for callback in (run.stop, log,  # in this order: the log hears of the stop
                     Probes(run.output / "probes.jsonl", tokenizer, probes, s.probe_steps, run.end_ids)):
        trainer.add_callback(callback)
    set_seed(s.seed + args.process_index)  # dropout differs between processes; the order of rows does not
    return trainer


def astray(output: Path, sound: int, rate: float) -> Note:
    """What to do when the loss went astray after step `sound`; checkpoints made since are no good and are removed."""
    for checkpoint in checkpoints(output):
        if step_of(checkpoint) > sound and is_first():
            shutil.rmtree(checkpoint)
            print(Note("checkpoint-astray", checkpoint=checkpoint), file=sys.stderr)
    return lower_rate(output, rate)


def set_up(s: TrainSettings) -> Run:
    """Everything up to the first step. Raises LensError; nothing is written before all of it was accepted."""
    began = time.monotonic()
    check_paths(s)

    files = find_base(s.base)  # before torch is imported, which takes seconds
    targets = target_modules(s.target_modules, fit_of(files))
    from lens.base.loading import end_ids, load_tokenizer
    from train.interrupt import StopOnSignal
    from train.trainer import arguments

    compute, tokenizer = chosen_compute(s), load_tokenizer(files, s.chat_template)
    s = dataclasses.replace(s, target_modules=targets, ending=ending_of(s, tokenizer))
    data = load_dataset(s, tokenizer)
    plan = Plan.of(s, len(data.rows), world_size())
    s = dataclasses.replace(s, max_steps=plan.steps)
    start = find_start(s, files, tokenizer, data.rows, plan.rows_a_step)
    if is_first():
        announce(s, data, files, compute, plan, start, tokenizer)
    model = adapted_base(s, files, compute, tokenizer, start, data.encoded)
    if s.resume and not finished(s, start):
        drop_later_records(Path(s.output), start.step)
    args = arguments(s, compute, bool(data.eval_rows))
    ends = end_ids(files, tokenizer)
    record = Record.begin(s, compute, files, data, start, counts=Counts(*model.get_nb_trainable_parameters()),
                          processes=args.world_size, chat=about_chat(s, tokenizer, ends))
    run = Run(s, Path(s.output), tokenizer, record, StopOnSignal(), start, began - start.record.get("seconds", 0), ends)
    with writing(run.output):  # Trainer makes its directory
        run.trainer = make_trainer(run, model, args, data)
        if run.main:
            run.output.mkdir(parents=True, exist_ok=True)
            (run.output / "log.jsonl").touch()
            print(record.counts, file=sys.stderr)
    return run


def ending_of(s: TrainSettings, tokenizer) -> str:
    """What answers are taught to end with. Raises BadBase where the base has no end of its own."""
    from lens.chat_template import layout_of

    if s.ending != OF_BASE:
        return s.ending
    if ending := layout_of(tokenizer).ending:
        return ending
    raise BadBase("base-no-end-token", path=s.base)


def about_chat(s: TrainSettings, tokenizer, ends: frozenset[int]) -> dict[str, object]:
    """What `training.json` says of how questions are asked and answers end."""
    from lens.chat_template import layout_of

    return {"template_sha256": hashlib.sha256(tokenizer.chat_template.encode()).hexdigest(), "ending": s.ending,
            "instruction_has_a_turn": layout_of(tokenizer).own_turn, "end_ids": sorted(ends)}


def announce(s: TrainSettings, data: Dataset, files: BaseFiles, compute: Compute, plan: Plan, start: Start,
             tokenizer) -> None:
    """What is about to be trained and what will come of it, on stderr, before the model is loaded."""
    from lens.base.loading import template_notes

    left = dataclasses.replace(plan, steps=plan.steps - start.step)
    notes = [*template_notes(s.base, tokenizer), *forecast(s, data, plan),
             *about_machine(s, data, files, compute, left), *start.notes()]
    show_rows(data.rows, data.encoded, tokenizer, s.max_length, notes=notes, calm=CALM)
    held = f"{len(data.eval_rows):,} rows held out; " if data.eval_rows else ""
    processes = world_size()
    print(f"{held}{plan.rows_a_step} rows a step in {processes} process{'es' if processes > 1 else ''}; {compute}",
          file=sys.stderr)
