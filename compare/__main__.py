"""python -m compare "question": base and adapted answers side by side in a terminal, or as JSON lines."""

from __future__ import annotations

import json
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from compare.questions import Question, read_questions
from lens.cli import Parser, add_model_options, chosen_adapters
from lens.errors import LensError
from lens.threads import wait_passively

if TYPE_CHECKING:
    from rich.table import Table

WHY = {"stop": "ended by itself", "length": "cut at the maximum length", "cancelled": "stopped",
       "loop": "stopped at a loop", None: "…"}


def parse(argv: list[str] | None):
    parser = Parser(prog="python -m compare", description="Ask base and adapted model the same question.")
    parser.add_argument("question", nargs="*", help="one or more questions")
    parser.add_argument("--questions", type=Path, help="file: one question a line, or JSON lines with `input`")
    parser.add_argument("--instruction", default="", help="system turn, such as 请回答下面的问题")
    add_model_options(parser)
    parser.add_argument("--strength", type=float, nargs="+", default=[1.0],
                        help="of the adapter, one column each (default: 1)")
    parser.add_argument("--plain-prompt", action="store_true",
                        help="one more column: the base on the question as running text, without the chat format")
    parser.add_argument("--max-new-tokens", type=int, default=128, help="(default: 128)")
    parser.add_argument("--temperature", type=float, default=0.0, help="0 is greedy (default: 0)")
    parser.add_argument("--top-p", type=float, default=1.0, help="(default: 1)")
    parser.add_argument("--seed", type=int, default=0, help="of sampling (default: 0)")
    parser.add_argument("--repetition-penalty", type=float, default=1.0,
                        help="1 is off; it hides the loops that a base falls into (default: 1)")
    parser.add_argument("--stop-at-loop", action="store_true", help="end an answer when its tail is a loop")
    parser.add_argument("--receipt", action="store_true", help="proof of what each adapter is and does")
    parser.add_argument("--shift", action="store_true", help="token by token, what the adapter changed")
    parser.add_argument("--json", action="store_true", help="one JSON object a question on stdout")
    return parser.parse_args(argv)


def table(question: Question, columns) -> Table:
    """The columns as a rich table: answers on top, below each why it stopped and how it repeats."""
    from rich.table import Table
    from rich.text import Text

    grid = Table(title=Text(question.text), expand=True, show_lines=True)
    for column in columns:
        grid.add_column(column.variant.name, ratio=1, overflow="fold")
    grid.add_row(*(Text(c.text, overflow="fold") for c in columns))
    grid.add_row(*(Text(f"{WHY[c.finish_reason]} · {len(c.token_ids)} tokens"
                        + (f" · repeats {c.loop.period} tokens × {c.loop.copies}" if c.loop else "")) for c in columns))
    return grid


def finish(engine, question: Question, columns, args) -> list[dict]:
    """The columns as the contract's objects, with receipt and shift where asked for."""
    from compare.analysis.token_shift import shift

    found = [column.as_dict() for column in columns]
    prompt = engine.prompt.encode(question.text, question.instruction)
    for which, column in enumerate(columns):
        if column.variant.adapter and args.receipt:
            found[which]["receipt"] = engine.receipts[column.variant.adapter].as_dict()
        if column.variant.adapter and args.shift:
            found[which]["shift"] = shift(engine, prompt, columns, which).as_dict()
    return found


def ask(engine, question: Question, sampling, args) -> None:
    """Answer one question on stdout. Raises BadQuestion."""
    from compare.engine.interface import PLAIN

    variants = engine.variants(args.strength) + [PLAIN] * args.plain_prompt
    stream = engine.compare(question.text, question.instruction, variants, sampling)
    columns: list = []
    if args.json:
        for columns in stream:
            pass
        print(json.dumps({"question": question.text, "instruction": question.instruction,
                          "columns": finish(engine, question, columns, args)}, ensure_ascii=False), flush=True)
        return
    from rich.console import Console
    from rich.live import Live

    console = Console()
    with Live(console=console, refresh_per_second=12) if console.is_terminal else nullcontext() as live:
        for columns in stream:
            if live:
                live.update(table(question, columns))
    if not console.is_terminal:
        console.print(table(question, columns))
    for found in finish(engine, question, columns, args):
        for line in notes(found):
            console.print(line, markup=False, highlight=False)


def notes(found: dict) -> list[str]:
    """Receipt and shift of one column, in words."""
    lines = []
    if receipt := found.get("receipt"):
        lines.append(f"{found['variant']}: sha256 {receipt['sha256'][:12]}, rank {receipt['rank']}, "
                     f"{receipt['modules']} modules, {receipt['keys_matched']} keys matched, "
                     f"largest logit change {receipt['max_logit_change']:.3g}, "
                     f"base column {'verified' if receipt['base_exact'] else 'NOT the untouched base'}")
    if shift := found.get("shift"):
        lines.append(f"{found['variant']}: {shift['sentence']['en']}")
    return lines


def main(argv: list[str] | None = None) -> int:
    wait_passively()
    args = parse(argv)
    try:
        questions = [Question(q, args.instruction) for q in args.question]
        if args.questions:
            questions += read_questions(args.questions, args.instruction)
        if not questions:
            raise LensError("the question is empty; type one, such as 哈尔滨工业大学的校训是什么？, before --adapter "
                            "and --strength, which take all that follows, or after --")
        if not all(q.text.strip() for q in questions):
            raise LensError("the question is empty; type one, such as 哈尔滨工业大学的校训是什么？")
        from compare.engine.engine import Engine
        from compare.engine.interface import Sampling

        sampling = Sampling(args.max_new_tokens, args.temperature, args.top_p, args.seed, args.repetition_penalty,
                            args.stop_at_loop)
        from transformers.utils import logging

        logging.disable_progress_bar()
        engine = Engine(args.base, chosen_adapters(args), args.device, args.dtype)
        for note in engine.notes:
            print(f"note: {note}", file=sys.stderr)
        for question in questions:
            ask(engine, question, sampling, args)
    except LensError as err:
        print(f"error: {err}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
