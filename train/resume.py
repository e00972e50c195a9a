"""Going on with a run that stopped, or starting one from a trained adapter: what must be as it was, what may change
and is recorded, and what was there before."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lens.adapter.directory import AdapterFiles, check_base, read_adapter
from lens.adapter.prompts import differing_line
from lens.base.files import BaseFiles
from lens.base.identity import same_base
from lens.errors import BadAdapter, BadBase, BadRows, BadSetting, Note
from lens.rows.rows import Rows
from lens.rows.sources import describe_source
from train.checkpoint import checkpoints, last_whole, step_of
from train.settings import TrainSettings

LORA = ("r", "lora_alpha", "use_rslora", "target_modules")  # what a trained adapter fixes
STAYS = ("recipe", *LORA, "whole_text", "ending", "max_length", "drop_cut_rows", "eval_share", "seed")
CHANGES = ("learning_rate", "max_steps", "schedule", "warmup_steps", "weight_decay", "lora_dropout", "dtype")
HIGHEST_ADVISED = 1e-3  # a learning rate at which the shipped bases train
FINISHED = "adapter_config.json"  # the last file that a finished run moves into its directory


@dataclass(frozen=True)
class Start:
    """Where a run begins: at a whole checkpoint, at an adapter's weights, or at nothing.

    `record`: the `training.json` of the checkpoint; `changes`: settings that are others than before, each with the
    step from which it counts; `lineage`: what the first weights came from; `about_adapter`: what is to be told of it.
    """

    checkpoint: Path | None = None
    adapter: AdapterFiles | None = None
    record: dict[str, Any] = field(default_factory=dict)
    changes: tuple[dict[str, Any], ...] = ()
    lineage: dict[str, Any] | None = None
    about_adapter: tuple[Note, ...] = ()

    @property
    def step(self) -> int:
        return step_of(self.checkpoint) if self.checkpoint else 0

    def notes(self) -> list[Note]:
        """What is to be told of it."""
        said: list[Note] = []
        if self.checkpoint:
            said.append(Note("going-on", checkpoint=self.checkpoint))
        if self.adapter:
            said += [Note("starting-from", adapter=self.adapter.path), *self.about_adapter]
        new = [change for change in self.changes if change["step"] == self.step]
        return said + [Note("setting-changed", **{**change, "setting": option(change["setting"])}) for change in new]


def option(name: str) -> str:
    return "--" + name.replace("_", "-")


def check_output(s: TrainSettings) -> None:
    """Raises BadSetting where --output holds what this run must not touch, or --resume finds nothing there."""
    out = Path(s.output)
    if out.is_file():
        raise BadSetting("output-is-file", output=out)
    if out.is_dir() and any(out.iterdir()) and not s.resume:
        raise BadSetting("output-not-empty", output=out)
    if s.resume and not checkpoints(out):
        if (out / FINISHED).is_file():
            raise BadSetting("resume-finished", output=out)
        if not (out / "log.jsonl").exists():
            raise BadSetting("resume-nothing-there", output=out)


def find_start(s: TrainSettings, base: BaseFiles, tokenizer: Any, rows: Rows, rows_a_step: int) -> Start:
    """Where this run begins. Raises LensError where it would not be the same run, or the adapter does not fit."""
    if not s.resume:
        return from_adapter(s) if s.from_adapter else Start()
    out = Path(s.output)
    found = last_whole(out)
    if found is None:
        if checkpoints(out):
            raise BadSetting("resume-none-whole", output=out)
        return from_adapter(s) if s.from_adapter else Start()
    if step_of(found) > s.max_steps:
        raise BadSetting("resume-steps-behind", steps=s.max_steps, checkpoint=found, reached=step_of(found))
    record = json.loads((found / "training.json").read_text(encoding="utf-8"))
    check_same_lineage(s, found, record.get("lineage") or {})
    check_same_run(s, found, record, base, tokenizer, rows_a_step)
    changes = [*record.get("changes", []), *changed(s, record, step_of(found))]
    if (then := rows_then(record)) not in (None, rows_now(s, rows, then)):
        if not s.new_data:
            raise BadRows("resume-rows-differ", checkpoint=found, then=record["rows"], now=len(rows))
        changes.append({"step": step_of(found), "setting": "data", "before": f"{record['rows']:,} rows",
                        "after": f"{len(rows):,} rows"})
    return Start(found, None, record, tuple(changes), record.get("lineage"))


def rows_then(record: dict[str, Any]) -> object:
    """What a record says of its rows: a hash of their texts, or in an older one the hashes of their files."""
    return record.get("rows_sha256") or [source.get("sha256") for source in record.get("data", [])] or None


def rows_now(s: TrainSettings, rows: Rows, then: object) -> object:
    return rows.content if isinstance(then, str) else [describe_source(name)["sha256"] for name in s.data]


def check_same_run(s: TrainSettings, checkpoint: Path, record: dict[str, Any], base: BaseFiles, tokenizer: Any,
                   rows_a_step: int) -> None:
    """Raises LensError, naming what differs with both values."""
    then, now = record["settings"], dataclasses.asdict(s)
    for name in STAYS:
        if name in then and then[name] != now[name]:
            raise BadSetting("resume-setting-differs", option=option(name), now=now[name], then=then[name],
                             checkpoint=checkpoint)
    a_step = then["batch"] * then["gradient_accumulation"] * record.get("processes", 1)
    if a_step != rows_a_step:
        raise BadSetting("resume-batch-differs", now=rows_a_step, then=a_step, checkpoint=checkpoint)
    if same_base(record["base"], base) is False:
        raise BadBase("resume-base-differs", base=base.name, then=record["base"]["name"], checkpoint=checkpoint)
    template = (checkpoint / "chat_template.jinja").read_text(encoding="utf-8")
    if other := differing_line(tokenizer.chat_template.strip(), template.strip()):
        raise BadBase("resume-template-differs", base=base.name, checkpoint=checkpoint, line=other["line"],
                      ours=other["ours"], theirs=other["theirs"])


def check_same_lineage(s: TrainSettings, checkpoint: Path, lineage: dict[str, Any]) -> None:
    """Raises BadSetting where --from-adapter names another adapter than the run began with; one that is gone since
    is needed no more."""
    if not s.from_adapter or not Path(s.from_adapter).exists() and lineage:
        return
    if read_adapter(s.from_adapter, s.base).sha256 != lineage.get("sha256"):
        raise BadSetting("resume-setting-differs", option="--from-adapter", now=s.from_adapter,
                         then=lineage.get("from_adapter", "none"), checkpoint=checkpoint)


def changed(s: TrainSettings, record: dict[str, Any], step: int) -> list[dict[str, Any]]:
    """The settings that may change and did, as records."""
    then, now = record["settings"], dataclasses.asdict(s)
    return [{"step": step, "setting": name, "before": then[name], "after": now[name]}
            for name in CHANGES if name in then and then[name] != now[name]]


def from_adapter(s: TrainSettings) -> Start:
    """A new run from the weights of a trained adapter. Raises LensError."""
    files = read_adapter(s.from_adapter, s.base)
    now, then = dataclasses.asdict(s), adopted(files)
    for name, value in then.items():
        if now[name] != value:
            raise BadAdapter("from-adapter-differs", option=option(name), now=now[name], then=value, path=files.path)
    notes = (*files.notes, *check_base(s.base, [files], s.chat_template))
    return Start(None, files, lineage={"from_adapter": files.name, "sha256": files.sha256}, about_adapter=notes)


def adopted(files: AdapterFiles) -> dict[str, Any]:
    """The LoRA settings that an adapter's weights were made with."""
    found = {name: getattr(files.settings, name) for name in LORA}
    return {**found, "target_modules": list(files.modules)}


def adopt(given: dict[str, Any]) -> dict[str, Any]:
    """The settings given, and where --from-adapter names one, those of its LoRA that were not; of a run that goes on,
    its last checkpoint's, since the adapter may be gone. Raises LensError."""
    if not given.get("from_adapter"):
        return given
    source = Path(given["from_adapter"])
    if given.get("resume"):
        source = last_whole(Path(given.get("output", TrainSettings.output))) or source
        if not source.exists():
            return given  # what is missing to go on is told later
    return {**adopted(read_adapter(source, given.get("base"))), **given}


def finished(s: TrainSettings, start: Start) -> bool:
    """Has this run made all its steps, and written its result?"""
    return start.step == s.max_steps and (Path(s.output) / FINISHED).is_file()


def lower_rate(output: Path, rate: float) -> Note:
    """What to do when the loss went astray: the newest good checkpoint with a rate at which training goes on."""
    lower, good = min(rate / 10, HIGHEST_ADVISED), last_whole(output)
    return Note("next-lower-rate-resume", rate=lower, good=good) if good else Note("next-lower-rate-anew", rate=lower)
