"""python -m compare.evaluate: did the adapter help, where, and what did it cost? Rows in, a report out.

On many GPUs or hosts: torchrun --nproc-per-node N -m compare.evaluate …
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from compare.options import (
    add_run_options,
    add_sampling_options,
    add_strength_option,
    ended_by_a_full_disk,
    row_options,
    sampling_of,
)
from compare.report.regression import MARGIN, Verdict, gate, read_report
from compare.report.report_files import make_directory, write
from compare.report.report_settings import ReportSettings
from compare.report.results import ResultsFile
from compare.report.slices import read_rules
from lens.base.files import find_base
from lens.cli import GATE_FAILED, Parser, chosen_adapters, command, interruptible, print_json, say
from lens.embedded import ASSETS
from lens.errors import BadAdapter, BadSetting
from lens.processes import Processes, part_together, rank


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(prog="python -m compare.evaluate",
                    description="Ask base and adapted model every held-out question; write a report of what changed.")
    parser.add_argument("--data", type=Path, default=ASSETS / "hit_qa" / "heldout.jsonl", metavar="FILE",
                        help="rows in any format that training reads, with optional keywords (all must be in a right "
                             "answer) and kind (\"unknown\": off topic) (default: the embedded held-out questions)")
    add_run_options(parser, "report", "rows of the file")
    add_strength_option(parser, [], "of the adapter, beside 1, for the curve over strengths")
    parser.add_argument("--checkpoints", type=Path, nargs="+", default=[], metavar="DIR",
                        help="earlier states of the adapter, or a directory of checkpoint-N, for the curve over steps")
    parser.add_argument("--plain", type=Path, default=ASSETS / "report" / "plain.txt", metavar="FILE",
                        help="text that nobody trained on, one sentence a line, to measure forgetting on")
    parser.add_argument("--slice-by", metavar="FIELD", help="figures by this field of the rows (default: tag)")
    parser.add_argument("--rule", action="append", default=[], metavar="NAME=REGEX",
                        help="a text rule of your own: how many answers it is found in; may be given again")
    add_sampling_options(parser, "sampling and of the intervals")
    parser.add_argument("--against", type=Path, metavar="DIR",
                        help="an older report: exit 1 when fewer answers are right than in it")
    parser.add_argument("--margin", type=float, default=MARGIN,
                        help=f"share of questions by which it may drop (default: {MARGIN})")
    return parser.parse_args(argv)


def report_settings(args: argparse.Namespace) -> ReportSettings:
    """Checked settings. Raises BadSetting, BadQuestion or BadAdapter."""
    adapters = chosen_adapters(args)
    if not adapters:
        raise BadAdapter("evaluation-without-adapter", base=args.base)
    if not 0 <= args.margin <= 1:
        raise BadSetting("setting-out-of-range", option="--margin", value=f"{args.margin:g}", allowed="0 to 1")
    return ReportSettings(args.data, args.output, args.plain, args.base, tuple(adapters),
                          sampling_of(args), tuple(args.strength), tuple(args.checkpoints), args.device, args.dtype,
                          args.limit, row_options(args), slice_by=args.slice_by,
                          rules=read_rules(args.rule), chat_template=args.chat_template)


def evaluate(args: argparse.Namespace) -> Verdict | None:
    """Build and write the report; the gate's verdict where one was asked for. Raises LensError."""
    settings = report_settings(args)
    find_base(settings.base)  # first: a base that is broken is told before anything is said of rows, or made
    old = read_report(args.against) if args.against else None
    make_directory(settings.output)
    from compare.report.build import build

    processes = Processes(settings.device)
    file = ResultsFile(settings.output, rank())
    report = build(settings, processes, file)
    if processes.main:
        write(report, settings.output)
        print_json({"report": str(settings.output / "report.html"),
                    "verdict": {name: said["en"] for name, said in report["verdict"].items()}})
    part_together()
    if not processes.main:
        file.remove()  # process 0 has its answers
    return gate(old, report, args.margin) if old else None


@command
def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    kept = f"interrupted: the finished answers are kept in {args.output}; the same command goes on from there"
    with ended_by_a_full_disk(args.output), interruptible(kept):
        verdict = evaluate(args)
    if verdict:
        say(verdict.sentence())
    return 0 if verdict is None or verdict.passed else GATE_FAILED


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # torchrun and schedulers interrupt with it
    sys.exit(main())
