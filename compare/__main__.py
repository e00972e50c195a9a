"""python -m compare "question": base and adapted answers side by side in a terminal, or as JSON lines."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from compare.analysis.layer_lens import unreadable
from compare.columns_table import notes, table
from compare.engine.answers import Column, answer_each, compare
from compare.engine.interface import PLAIN, Engine, GivenAnswer, Question, Sampling, Variant, number
from compare.options import (
    add_part_options,
    add_sampling_options,
    add_shared_options,
    add_strength_option,
    in_part,
    load_engine,
    note_names,
    row_options,
    sampling_of,
)
from compare.questions import read_questions
from lens.chat import valid_text
from lens.cli import BAD_INPUT, Parser, command, interruptible, note_base_alone, print_json, say, say_notes
from lens.errors import BadQuestion, BadSetting, LensError
from lens.terminal_text import one_line

if TYPE_CHECKING:
    from rich.console import Console


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(prog="python -m compare", description="Ask base and adapted model the same question.")
    parser.add_argument("question", nargs="*", help="one or more questions")
    parser.add_argument("--questions", type=Path,
                        help="file: one question a line, or rows in any format that training reads, answers not needed")
    parser.add_argument("--instruction", default="", help="system turn, such as 请回答下面的问题")
    add_shared_options(parser)
    add_strength_option(parser, [1.0], "of the adapter, one column each (default: 1)")
    add_part_options(parser)
    parser.add_argument("--plain-prompt", action="store_true",
                        help="one more column: the base on the question as running text, without the chat format")
    add_sampling_options(parser)
    parser.add_argument("--repetition-penalty", type=number("repetition_penalty"), default=1.0,
                        help="1 is off; it hides the loops that a base falls into (default: 1)")
    parser.add_argument("--stop-at-loop", action="store_true", help="end an answer when its tail is a loop")
    parser.add_argument("--receipt", action="store_true", help="proof of what each adapter is and does")
    parser.add_argument("--shift", action="store_true", help="token by token, what the adapter changed")
    parser.add_argument("--map", action="store_true",
                        help="by layer, what each part of the adapter adds to the answer, and what is lost without it")
    parser.add_argument("--by-layer", type=int, nargs="*", metavar="TOKEN",
                        help="what both models would say after each layer, at these tokens of the answer, from 0 "
                             "(default: the first that differs from the base's)")
    parser.add_argument("--text", type=valid_text,
                        help="for --map and --by-layer, in place of the adapter's answer and its end: any text, as it "
                             "is written")
    parser.add_argument("--json", action="store_true", help="one JSON object a question on stdout")
    return parser.parse_args(argv)


def asked(args: argparse.Namespace) -> list[Question]:
    """The questions of the command line, then those of the file. Raises BadQuestion."""
    questions = [Question(q, args.instruction) for q in args.question]
    if args.questions:
        found = read_questions(args.questions, args.instruction, row_options(args))
        say_notes(found.notes)
        questions += found
    if not questions:
        raise BadQuestion("question-missing")
    if all(not q.text.strip() for q in questions):
        raise BadQuestion("question-blank")
    return questions


def looks_inside(args: argparse.Namespace) -> bool:
    return args.map or args.by_layer is not None


def inside(engine: Engine, base: Column, column: Column, args: argparse.Namespace) -> dict:
    """Map and layers of an adapted answer, or of another text after its prompt, which they then name."""
    from compare.analysis.token_shift import whole_answer

    of_base, ids = (whole_answer(one, engine.tokens.end_id) for one in (base, column))
    if args.text is not None:
        ids = engine.tokens.encode(args.text)
    of_text = {} if args.text is None else {"answer": engine.tokens.decode(ids)}
    given, found = GivenAnswer(column.prompt_ids, ids, column.variant), {}
    if args.map:
        found["map"] = {**of_text, **engine.layer_map(given).as_dict()}
    if args.by_layer is not None:
        parts_at = next((i for i, (a, b) in enumerate(zip(of_base, ids, strict=False)) if a != b), 0)
        found["by_layer"] = {**of_text, **engine.by_layer(given, args.by_layer or [parts_at]).as_dict()}
    return found


def finish(engine: Engine, columns: Sequence[Column], args: argparse.Namespace) -> list[dict]:
    """The columns as the contract's objects, with receipt, shift, map and layers where asked for."""
    from compare.analysis.token_shift import Shift

    found = [column.as_dict() for column in columns]
    for which, column in enumerate(columns):
        if column.prompt_ids != columns[0].prompt_ids:
            found[which]["prompt_ids"] = column.prompt_ids
        if column.variant.adapter and args.receipt:
            found[which]["receipt"] = engine.adapters[column.variant.adapter].receipt.as_dict()
        if column.variant.adapter and args.shift:
            found[which]["shift"] = Shift.of(engine, columns, which).as_dict()
        if column.variant.adapter and looks_inside(args):
            found[which] |= inside(engine, columns[0], column, args)
    return found


class Printer:
    """Prints finished questions on stdout, as JSON lines or tables; `failed`: could one not be answered?"""

    def __init__(self, engine: Engine, args: argparse.Namespace):
        self.engine, self.args, self.failed = engine, args, False

    def print(self, question: Question, answer: Sequence[Column] | LensError) -> None:
        try:
            if isinstance(answer, LensError):
                raise answer
            found = finish(self.engine, answer, self.args)
        except LensError as err:
            return self.tell(question, err)
        if self.args.json:
            print_json({"question": question.text, "instruction": question.instruction,
                        "prompt_ids": answer[0].prompt_ids, "columns": found})
        else:
            from rich.console import Console

            console = Console()
            console.print(table(question, answer, console.width))
            self.print_notes(found, console)

    def tell(self, question: Question, error: LensError) -> None:
        """What this question could not have; the others go on."""
        self.failed = True
        if self.args.json:
            print_json({"question": question.text, "instruction": question.instruction, "error": error.as_dict()})
        else:
            say(f"error: question {question.text[:40]!r}: {error}")

    def print_notes(self, found: Sequence[dict], console: Console) -> None:
        if self.args.text is not None and self.engine.adapters:
            console.print(f"map and layers of the text '{one_line(self.args.text)}':", markup=False, highlight=False)
        for column in found:
            for line in notes(column):
                console.print(line, markup=False, highlight=False)


def watch(engine: Engine, question: Question, variants: Sequence[Variant], sampling: Sampling,
          printer: Printer) -> None:
    """One question on a terminal: its table while the answers grow. Raises BadQuestion."""
    from rich.console import Console
    from rich.live import Live

    console, columns = Console(), []
    with Live(console=console, refresh_per_second=12) as live:
        for columns in compare(engine, question, variants, sampling):
            live.update(table(question, columns, console.width))
    printer.print_notes(finish(engine, columns, printer.args), console)


def ask_all(engine: Engine, questions: Sequence[Question], variants: Sequence[Variant], sampling: Sampling,
            printer: Printer) -> None:
    """All questions in one running batch, printed in their order, each as soon as it and all before it are finished;
    interrupted, whatever else is finished too. Raises the first question's error where none can be asked."""
    from tqdm import tqdm

    ready: dict[int, list[Column] | LensError] = {}
    printed = 0
    try:
        with tqdm(total=len(questions), unit="question", file=sys.stderr, disable=None, leave=False) as bar:
            for index, answer in answer_each(engine, questions, variants, sampling):
                ready[index] = answer
                bar.update()
                while printed in ready:
                    bar.clear()
                    printer.print(questions[printed], ready.pop(printed))
                    printed += 1
    finally:
        for index in sorted(ready):
            printer.print(questions[index], ready[index])


@command
def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    if args.text is not None and not looks_inside(args):
        raise BadSetting("text-without-map", text=repr(args.text[:40]))
    questions = asked(args)
    sampling = sampling_of(args, repetition_penalty=args.repetition_penalty, stop_at_loop=args.stop_at_loop)
    with interruptible("interrupted; the answers that were finished are above"):
        engine = load_engine(args)
        note_base_alone(args)
        say_notes(engine.notes)
        if args.by_layer is not None and "by-layer" not in engine.abilities:
            raise unreadable(engine.facts.base_name)
        variants = in_part(engine.variants(args.strength), args) + [PLAIN] * args.plain_prompt
        printer = Printer(engine, args)
        note_names(variants)
        if len(questions) == 1 and sys.stdout.isatty() and not args.json:
            watch(engine, questions[0], variants, sampling, printer)
        else:
            ask_all(engine, questions, variants, sampling, printer)
    return BAD_INPUT if printer.failed else 0


if __name__ == "__main__":
    sys.exit(main())
