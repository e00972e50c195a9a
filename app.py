"""LoRA Lens: parse arguments, load, build the page, launch. Spaces starts here."""

from __future__ import annotations

import sys

from compare.errors import LensError
from compare.settings import Parser, add_model_options, chosen_adapters, chosen_timeline


def parse(argv: list[str] | None):
    parser = Parser(prog="python app.py", description="Base and adapted answers side by side, in the browser.")
    add_model_options(parser)
    parser.add_argument("--host", default=None, help="(default: 127.0.0.1, or GRADIO_SERVER_NAME)")
    parser.add_argument("--port", type=int, default=None, help="(default: 7860 or the next free one)")
    parser.add_argument("--share", action="store_true", help="a public link by Gradio (needs the network)")
    return parser.parse_args(argv)


def load_engine(args):
    """The engine for these arguments. Raises LensError."""
    from transformers.utils import logging

    from compare.engine import Engine

    logging.disable_progress_bar()
    return Engine(args.base, chosen_adapters(args), args.device, args.dtype, timeline=chosen_timeline(args))


def first_answer(engine) -> list:
    """The first question's columns, so that the page opens with something to see."""
    from compare.page.asked import FIRST_INSTRUCTION, FIRST_QUESTION

    columns: list = []
    for columns in engine.compare(FIRST_QUESTION, FIRST_INSTRUCTION):
        pass
    return columns


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    try:
        engine = load_engine(args)
    except LensError as err:
        print(f"error: {err}", file=sys.stderr)
        return 2
    from compare.page.app import THEME, build, head

    page = build(engine, first_answer(engine)).queue(max_size=64)
    page.launch(server_name=args.host, server_port=args.port, share=args.share, theme=THEME, head=head(),
                footer_links=["api"], run_history=False, max_file_size="1mb", ssr_mode=False, show_error=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
