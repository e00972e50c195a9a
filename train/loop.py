"""One training run: base + rows → adapter directory, by transformers' Trainer.

Set up, run, result; each part has a module of its own. Raises LensError for
what the user can mend, Interrupted when a signal ended it.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

from lens.adapter.write import replace_adapter
from lens.errors import Note
from lens.processes import part_together
from train.checkpoint import step_of
from train.resume import finished
from train.settings import TrainSettings
from train.setup import Run, set_up


def train(s: TrainSettings) -> Path | None:
    """Run it all; returns the adapter directory, or None in a process that is not the first of its run."""
    run = set_up(s)
    if finished(run.settings, run.start):
        if run.main:
            print(Note("nothing-left", output=run.output, steps=run.settings.max_steps), file=sys.stderr)
        part_together()
        return run.output if run.main else None
    from train.interrupt import Interrupted  # transformers is imported by now; bad input is told without

    try:
        go(run)
    except Interrupted:
        part_together()
        raise
    if run.main:
        finish(run)
    part_together()
    return run.output if run.main else None


def go(run: Run) -> None:
    """All steps, with checkpoints, logs and probes. Raises Interrupted after a signal, its work saved."""
    from train.interrupt import Interrupted
    from train.trainer import could_not_write

    trainer, checkpoint = run.trainer, run.start.checkpoint
    if checkpoint and step_of(checkpoint) == run.settings.max_steps:
        restore(run, checkpoint)  # the run was killed between its last checkpoint and its result
        return
    try:
        with run.stop, contextlib.redirect_stdout(sys.stderr):  # Trainer prints losses; stdout is for the result
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except OSError as err:
        raise could_not_write(run.output, trainer.state.global_step, err) from err
    if run.stop.asked and trainer.state.global_step < run.settings.max_steps:
        step = trainer.state.global_step
        raise Interrupted(step, run.output / f"checkpoint-{step}")


def restore(run: Run, checkpoint: Path) -> None:
    """Weights and counters of a finished run's last checkpoint."""
    from transformers import TrainerState

    run.trainer._load_from_checkpoint(str(checkpoint))
    run.trainer.state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))


def finish(run: Run) -> None:
    """The adapter directory itself, its picture and, where asked for, the hub's copy. Process 0 alone."""
    from train.record.log import draw_loss, read_log

    s = run.settings
    picture = run.output / "loss.png"
    with run.trainer.saying_what_failed():
        draw_loss(read_log(run.output / "log.jsonl"), picture, f"LoRA on {run.record.base['name']}")
        replace_adapter(lambda directory: run.write_adapter(directory, picture.is_file()), run.output)
    if s.push_to_hub:
        from train.hub import push

        print(push(run.output, s.push_to_hub), file=sys.stderr)
