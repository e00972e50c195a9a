"""python -m compare.evaluate: did the adapter help, where, and what did it cost? Rows in, a report out.

On many GPUs or hosts: torchrun --nproc-per-node N -m compare.evaluate …
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path

from compare.report.processes import Processes, rank
from compare.report.regression import MARGIN, Verdict, gate, read_report
from compare.report.report_settings import ReportSettings
from compare.report.results import ResultsFile
from compare.report.write import make_directory, write
from lens.cli import Parser, add_model_options, chosen_adapters
from lens.embedded import ASSETS
from lens.errors import BadAdapter, BadQuestion, LensError
from lens.threads import wait_passively


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(prog="python -m compare.evaluate",
                    description="Ask base and adapted model every held-out question; write a report of what changed.")
    parser.add_argument("--data", type=Path, default=ASSETS / "hit_qa" / "heldout.jsonl", metavar="FILE",
                        help="JSON lines with input, output, and optional instruction, keywords (all must be in a "
                             "right answer), kind (\"unknown\": off topic) (default: the embedded held-out questions)")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR",
                        help="where the report goes; an interrupted run goes on from what is there")
    add_model_options(parser)
    parser.add_argument("--strength", type=float, nargs="+", default=[], metavar="S",
                        help="of the adapter, beside 1, for the curve over strengths")
    parser.add_argument("--checkpoints", type=Path, nargs="+", default=[], metavar="DIR",
                        help="earlier states of the adapter, or a directory of checkpoint-N, for the curve over steps")
    parser.add_argument("--plain", type=Path, default=ASSETS / "report" / "plain.txt", metavar="FILE",
                        help="text that nobody trained on, one sentence a line, to measure forgetting on")
    parser.add_argument("--limit", type=int, metavar="N", help="only the file's first N rows")
    parser.add_argument("--max-new-tokens", type=int, default=128, help="(default: 128)")
    parser.add_argument("--temperature", type=float, default=0.0, help="0 is greedy (default: 0)")
    parser.add_argument("--top-p", type=float, default=1.0, help="(default: 1)")
    parser.add_argument("--seed", type=int, default=0, help="of sampling and of the intervals (default: 0)")
    parser.add_argument("--against", type=Path, metavar="DIR",
                        help="an older report: exit 1 when fewer answers are right than in it")
    parser.add_argument("--margin", type=float, default=MARGIN,
                        help=f"share of questions by which it may drop (default: {MARGIN})")
    return parser.parse_args(argv)


def report_settings(args: argparse.Namespace) -> ReportSettings:
    """Checked settings. Raises BadQuestion or BadAdapter."""
    from compare.engine.interface import Sampling

    adapters = chosen_adapters(args)
    if not adapters:
        raise BadAdapter(f"no adapter for base {args.base}: there is nothing to compare; give one with --adapter")
    if not 0 <= args.margin <= 1:
        raise BadQuestion(f"--margin is {args.margin:g}; allowed: 0 to 1")
    return ReportSettings(args.data, args.output, args.plain, args.base, tuple(adapters),
                          Sampling(args.max_new_tokens, args.temperature, args.top_p, args.seed), tuple(args.strength),
                          tuple(args.checkpoints), args.device, args.dtype, args.limit)


def evaluate(args: argparse.Namespace) -> Verdict | None:
    """Build and write the report; the gate's verdict where one was asked for. Raises LensError."""
    settings = report_settings(args)
    old = read_report(args.against) if args.against else None
    make_directory(settings.output)
    from compare.report.build import build

    processes = Processes(settings.device)
    file = ResultsFile(settings.output, rank())
    report = build(settings, processes, file)
    if processes.main:
        write(report, settings.output)
        print(json.dumps({"report": str(settings.output / "report.html"),
                          "verdict": {name: said["en"] for name, said in report["verdict"].items()}},
                         ensure_ascii=False), flush=True)
    processes.close()
    if not processes.main:
        file.remove()  # process 0 has its answers
    return gate(old, report, args.margin) if old else None


def main(argv: list[str] | None = None) -> int:
    wait_passively()
    args = parse(argv)
    try:
        verdict = evaluate(args)
    except LensError as err:
        if rank() == 0:
            print(f"error: {err}", file=sys.stderr)
        return 2
    except OSError as err:  # a full or read-only disk, on whichever process
        print(f"error: {err.filename or args.output}: {err.strerror or err}; make room or give another --output; "
              f"finished answers are kept in {args.output}, and the same command goes on from there", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        if rank() == 0:
            print(f"interrupted: the finished answers are kept in {args.output}; the same command goes on from there",
                  file=sys.stderr)
        return 130
    if verdict and rank() == 0:
        print(verdict.sentence(), file=sys.stderr)
    return 0 if verdict is None or verdict.passed else 1


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # torchrun and schedulers interrupt with it
    sys.exit(main())
