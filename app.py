"""LoRA Lens: parse arguments, load, build the page, launch. Spaces starts here."""

from __future__ import annotations

import os
import sys

from compare.server.launch import Serving, add_serving_options
from lens.cli import Parser, add_model_options, chosen_adapters, chosen_timeline
from lens.errors import LensError
from lens.threads import wait_passively


def parse(argv: list[str] | None):
    parser = Parser(prog="python app.py", description="Base and adapted answers side by side, in the browser.")
    add_model_options(parser)
    add_serving_options(parser)
    return parser.parse_args(argv)


def lender():
    """ZeroGPU's decorator on a Space that lends a GPU for each question, else None."""
    if not os.environ.get("SPACES_ZERO_GPU"):
        return None
    import spaces

    return spaces.GPU


def load_engine(args):
    """The engine for these arguments. Raises LensError."""
    lend = lender()  # before torch is imported, as ZeroGPU wants it
    from transformers.utils import logging

    from compare.engine.engine import Engine

    logging.disable_progress_bar()
    if lend:
        from compare.engine.zero_gpu import ZeroGpuEngine

        return ZeroGpuEngine(lend, args.base, chosen_adapters(args), args.dtype, chosen_timeline(args))
    return Engine(args.base, chosen_adapters(args), args.device, args.dtype, timeline=chosen_timeline(args))


def first_answer(engine) -> list:
    """The first question's columns, so that the page opens with something to see; none where a GPU must be lent."""
    if os.environ.get("SPACES_ZERO_GPU"):
        return []
    from compare.page.shared.question import FIRST_INSTRUCTION, FIRST_QUESTION

    columns: list = []
    for columns in engine.compare(FIRST_QUESTION, FIRST_INSTRUCTION):
        pass
    return columns


def main(argv: list[str] | None = None) -> int:
    wait_passively()
    args = parse(argv)
    try:
        engine = load_engine(args)
        for note in engine.notes:
            print(f"note: {note}", file=sys.stderr)
    except LensError as err:
        print(f"error: {err}", file=sys.stderr)
        return 2
    from compare.page.page import build
    from compare.server.trainings.trainings import Workshop

    serving = Serving.of(args)
    shop = Workshop(engine, serving.permission)
    try:
        serving.launch(build(engine, first_answer(engine), shop), engine)
    finally:
        if left := shop.close():
            print(f"training {left.number} saves and stops; the page resumes it", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
