"""One run: load, ask everything, summarise. Returns the report; writes nothing but results.

Checkpoints are loaded one after another, each beside the same base; only the adapter's column is asked again.
"""

from __future__ import annotations

import platform
import sys
import time
from typing import TYPE_CHECKING

from compare.report.answers import answer_rows
from compare.report.plain import Plain, losses
from compare.report.processes import Processes
from compare.report.report_settings import ReportSettings, base_sha256, checkpoint_directories, step_of
from compare.report.results import ResultsFile
from compare.report.rows import Data, read_data, read_plain
from compare.report.summary import Seen, summarise
from compare.report.verdict import verdict

if TYPE_CHECKING:  # it brings torch
    from compare.engine.engine import Engine

FORMAT = 1  # of report.json


def build(settings: ReportSettings, processes: Processes, file: ResultsFile) -> dict:
    """The report as report.json holds it, in every process. Raises LensError."""
    began = time.monotonic()
    data = read_data(settings.data, settings.limit)
    plain = Plain(settings.plain.name, tuple(read_plain(settings.plain)))
    checkpoints = checkpoint_directories(settings.checkpoints)
    engine, variants = ask(settings, settings.adapters, data, plain, processes, file)
    steps = [ask(settings, (str(path),), data, plain, processes, file, only_adapter=True)[1][0]
             for path in checkpoints]
    figures = summarise(data.rows, variants, steps, settings.sampling.seed)
    files = engine.adapters[engine.shown[0]]
    off_topic = sum(row.off_topic for row in data.rows)
    return {"format": FORMAT,
            "base": {"name": engine.base_name, "sha256": base_sha256(settings.base)},
            "adapter": {"name": files.name, "sha256": files.sha256, "r": files.r, "step": variants[1].step},
            "data": {"name": data.name, "sha256": data.sha256, "questions": len(data.rows) - off_topic,
                     "off_topic": off_topic},
            "plain": {"name": plain.name, "sha256": plain.sha256, "sentences": len(plain.sentences)},
            "settings": {**vars(settings.sampling), "dtype": str(engine.dtype).removeprefix("torch.")},
            "verdict": verdict(figures["variants"]), **figures,
            "run": {"seconds": round(time.monotonic() - began, 1), "processes": processes.count,
                    "device": engine.device, "versions": versions()}}


def ask(settings: ReportSettings, adapters: tuple[str, ...], data: Data, plain: Plain, processes: Processes,
        file: ResultsFile, only_adapter: bool = False) -> tuple[Engine, list[Seen]]:
    """An engine with these adapters, and its variants over all rows and sentences."""
    from compare.engine.engine import Engine

    engine = Engine(settings.base, list(adapters), processes.device, settings.dtype)
    for note in engine.notes if processes.main else ():
        print(f"note: {note}", file=sys.stderr)
    whole = engine.variants([1.0])
    others = [v for v in engine.variants(settings.other_strengths) if v.adapter == engine.shown[0]]
    variants = whole[1:] if only_adapter else whole + others
    depends = {"base": base_sha256(settings.base), "dtype": str(engine.dtype),
               "adapters": [files.sha256 for files in engine.adapters.values()]}
    answers = answer_rows(engine, data.rows, variants, settings.sampling, depends, file, processes)
    steps: dict[str | None, int | None] = {None: 0}
    steps |= {name: step_of(files.path) for name, files in engine.adapters.items()}
    return engine, [Seen(seen, lost, steps[variant.adapter])
                    for variant, seen, lost in zip(variants, zip(*answers, strict=True),
                                                   losses(engine, plain, variants), strict=True)]


def versions() -> dict:
    import peft
    import torch
    import transformers

    return {"python": platform.python_version(), "torch": torch.__version__, "transformers": transformers.__version__,
            "peft": peft.__version__}
