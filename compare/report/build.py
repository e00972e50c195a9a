"""One run: load, ask everything, summarise. Returns the report; writes nothing but results.

Checkpoints are loaded one after another, each beside the same base; only the adapter's column is asked again.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence

from compare.engine.interface import Engine, Variant
from compare.options import load_engine, note_names
from compare.report.answered_rows import Plain, answer_rows, losses
from compare.report.measure_words import verdict
from compare.report.report_settings import ReportSettings, base_sha256, checkpoint_directories
from compare.report.results import ResultsFile
from compare.report.rows import Data, read_data, read_plain
from compare.report.slices import counted, slices, slices_of
from compare.report.summary import Seen, summarise
from lens.cli import say_notes
from lens.processes import Processes
from lens.rows.rows import TAG

FORMAT = 1  # of report.json


def build(settings: ReportSettings, processes: Processes, file: ResultsFile) -> dict:
    """The report as report.json holds it, in every process. Raises LensError."""
    began = time.monotonic()
    data = read_data(settings.data, settings.limit, settings.reading, settings.slice_by or TAG)
    say_notes(data.notes)
    plain = Plain(settings.plain.name, tuple(read_plain(settings.plain)))
    counted(data.rows, settings.slice_by)  # a field that no row has is told before anything is asked
    checkpoints = checkpoint_directories(settings.checkpoints)
    with load_engine(settings, settings.adapters, processes.device) as engine:
        say_notes(engine.notes)
        whole, first = engine.variants([1.0]), next(iter(engine.adapters.values()))
        others = [v for v in engine.variants(settings.other_strengths) if v.adapter == first.name]
        note_names([*whole, *others])
        variants = ask(settings, engine, whole + others, data, plain, processes, file)
        facts = engine.facts
    steps = []
    for path in checkpoints:
        with load_engine(settings, [str(path)], processes.device) as engine:
            steps += ask(settings, engine, engine.variants()[1:], data, plain, processes, file)
    figures = summarise(data.rows, variants, steps, settings.sampling.seed)
    for question, row in zip(figures["questions"], data.rows, strict=True):
        if own := slices_of(row, settings.slice_by or TAG):
            question["slices"] = own
    off_topic = sum(row.off_topic for row in data.rows)
    return {"format": FORMAT,
            "base": {"name": facts.base_name, "sha256": base_sha256(settings.base)},
            "adapter": {"name": first.name, "sha256": first.sha256, "r": first.r, "step": variants[1].step},
            "data": {"name": data.name, "sha256": data.sha256, "questions": len(data.rows) - off_topic,
                     "off_topic": off_topic, "repeats": data.repeats, "skipped": data.skipped},
            "plain": {"name": plain.name, "sha256": plain.sha256, "sentences": len(plain.sentences)},
            "settings": {**vars(settings.sampling), "dtype": facts.dtype},
            "verdict": verdict(figures["variants"]), **figures,
            "slices": slices(data.rows, variants[0], variants[1], settings.slice_by, settings.rules,
                             settings.sampling.seed),
            "run": {"seconds": round(time.monotonic() - began, 1), "processes": processes.count,
                    "device": facts.device, "versions": versions()}}


def ask(settings: ReportSettings, engine: Engine, variants: Sequence[Variant], data: Data, plain: Plain,
        processes: Processes, file: ResultsFile) -> list[Seen]:
    """The variants over all rows and sentences."""
    depends = {"base": base_sha256(settings.base), "dtype": f"torch.{engine.facts.dtype}",
               "prompt": list(engine.tokens.prompt_ids("问", "答")),  # for the template, which no weights tell
               "adapters": [adapter.decides for adapter in engine.adapters.values()]}
    answers = answer_rows(engine, data.rows, variants, settings.sampling, depends, file, processes)
    return [Seen(seen, lost, engine.adapters[variant.adapter].step if variant.adapter else 0)
            for variant, seen, lost in zip(variants, zip(*answers, strict=True), losses(engine, plain, variants),
                                           strict=True)]


def versions() -> dict:
    import peft
    import torch
    import transformers

    return {"python": platform.python_version(), "torch": torch.__version__, "transformers": transformers.__version__,
            "peft": peft.__version__}
