"""LoRA Lens: parse arguments, load, build the page, launch. Spaces starts here."""

from __future__ import annotations

import os
import sys

from compare.server.endpoint import Endpoint, add_endpoint_options
from compare.server.launch import Serving, add_serving_options
from lens.cli import (
    Parser,
    add_model_options,
    chosen_adapters,
    chosen_timeline,
    command,
    note_base_alone,
    quiet_transformers,
    say,
    say_notes,
)


def parse(argv: list[str] | None):
    parser = Parser(prog="python app.py", description="Base and adapted answers side by side, in the browser.")
    add_model_options(parser)
    add_serving_options(parser)
    add_endpoint_options(parser)
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
    from compare.engine.local import LocalEngine

    quiet_transformers()
    if lend:
        from compare.engine.zero_gpu import ZeroGpuEngine

        return ZeroGpuEngine(lend, args.base, chosen_adapters(args), args.dtype, chosen_timeline(args),
                             args.chat_template)
    return LocalEngine(args.base, chosen_adapters(args), args.device, args.dtype, timeline=chosen_timeline(args),
                       chat_template=args.chat_template)


def first_answer(engine) -> list:
    """The first question's columns, so that the page opens with something to see; none where a GPU must be lent."""
    if os.environ.get("SPACES_ZERO_GPU"):
        return []
    from compare.engine.answers import answer_all
    from compare.engine.interface import Question
    from compare.page.shared.examples import first_question

    return next(answer_all(engine, [Question(*first_question(engine))]))[1]


@command
def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    endpoints = Endpoint.all_of(args)
    engine = load_engine(args)
    note_base_alone(args)
    say_notes(engine.notes)
    from compare.page.page import build
    from compare.server.loading.page_adapters import Loading
    from compare.server.request_filter import MEGABYTE
    from compare.server.trainings.trainings import Trainings

    serving = Serving.of(args)
    trainings = Trainings(engine, serving.permission)
    loading = Loading(engine, serving.may_load, serving.loading_root, int(serving.max_upload_mb * MEGABYTE))
    try:
        serving.launch(build(engine, first_answer(engine), trainings, endpoints, loading), engine)
    finally:
        if left := trainings.close():
            say(f"training {left.number} saves and stops; the page resumes it")
    return 0


if __name__ == "__main__":
    sys.exit(main())
