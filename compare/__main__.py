"""python -m compare "question": base and adapted answers side by side in a terminal, or as JSON lines."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from compare.columns_table import notes, table
from compare.options import add_sampling_options, add_strength_option, check_strengths, sampling_of
from compare.questions import Question, read_questions
from lens.cli import (
    BAD_INPUT,
    Parser,
    add_model_options,
    chosen_adapters,
    command,
    interruptible,
    note_base_alone,
    quiet_transformers,
    say,
)
from lens.errors import BadQuestion, LensError
from lens.strict_json import print_json


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(prog="python -m compare", description="Ask base and adapted model the same question.")
    parser.add_argument("question", nargs="*", help="one or more questions")
    parser.add_argument("--questions", type=Path, help="file: one question a line, or JSON lines with `input`")
    parser.add_argument("--instruction", default="", help="system turn, such as 请回答下面的问题")
    add_model_options(parser)
    add_strength_option(parser, [1.0], "of the adapter, one column each (default: 1)")
    parser.add_argument("--plain-prompt", action="store_true",
                        help="one more column: the base on the question as running text, without the chat format")
    add_sampling_options(parser)
    parser.add_argument("--repetition-penalty", type=float, default=1.0,
                        help="1 is off; it hides the loops that a base falls into (default: 1)")
    parser.add_argument("--stop-at-loop", action="store_true", help="end an answer when its tail is a loop")
    parser.add_argument("--receipt", action="store_true", help="proof of what each adapter is and does")
    parser.add_argument("--shift", action="store_true", help="token by token, what the adapter changed")
    parser.add_argument("--json", action="store_true", help="one JSON object a question on stdout")
    return parser.parse_args(argv)


def asked(args: argparse.Namespace) -> list[Question]:
    """The questions of the command line, then those of the file. Raises BadQuestion."""
    questions = [Question(q, args.instruction) for q in args.question]
    if args.questions:
        questions += read_questions(args.questions, args.instruction)
    if not questions:
        raise BadQuestion("question-missing")
    if all(not q.text.strip() for q in questions):
        raise BadQuestion("question-blank")
    return questions


def finish(engine, question: Question, columns: Sequence, args) -> list[dict]:
    """The columns as the contract's objects, with receipt and shift where asked for."""
    from compare.analysis.token_shift import shift

    found = [column.as_dict() for column in columns]
    prompt = engine.prompt.encode(question.text, question.instruction)
    for which, column in enumerate(columns):
        if column.variant.prompt != "chat":
            found[which]["prompt_ids"] = engine.prompt.encode(question.text, question.instruction,
                                                              column.variant.prompt)
        if column.variant.adapter and args.receipt:
            found[which]["receipt"] = engine.receipts[column.variant.adapter].as_dict()
        if column.variant.adapter and args.shift:
            found[which]["shift"] = shift(engine, prompt, columns, which).as_dict()
    return found


class Printer:
    """Prints finished questions on stdout, as JSON lines or tables; `failed`: could one not be answered?"""

    def __init__(self, engine, args: argparse.Namespace):
        self.engine, self.args, self.failed = engine, args, False

    def print(self, question: Question, answer: Sequence | LensError) -> None:
        if isinstance(answer, LensError):
            self.failed = True
            if self.args.json:
                print_json({"question": question.text, "instruction": question.instruction, "error": answer.as_dict()})
            else:
                say(f"error: {question.text[:40]}: {answer}")
        elif self.args.json:
            print_json({"question": question.text, "instruction": question.instruction,
                        "prompt_ids": self.engine.prompt.encode(question.text, question.instruction),
                        "columns": finish(self.engine, question, answer, self.args)})
        else:
            from rich.console import Console

            console = Console()
            console.print(table(question, answer, console.width))
            self.print_notes(question, answer, console)

    def print_notes(self, question: Question, columns: Sequence, console) -> None:
        for found in finish(self.engine, question, columns, self.args):
            for line in notes(found):
                console.print(line, markup=False, highlight=False)


def watch(engine, question: Question, variants: Sequence, sampling, printer: Printer) -> None:
    """One question on a terminal: its table while the answers grow. Raises BadQuestion."""
    from rich.console import Console
    from rich.live import Live

    console, columns = Console(), []
    with Live(console=console, refresh_per_second=12) as live:
        for columns in engine.compare(question.text, question.instruction, variants, sampling):
            live.update(table(question, columns, console.width))
    printer.print_notes(question, columns, console)


def ask_all(engine, questions: Sequence[Question], variants: Sequence, sampling, printer: Printer) -> None:
    """All questions in one running batch, printed in their order, each as soon as it and all before it are finished;
    interrupted, whatever else is finished too. Raises the first question's error where none can be asked."""
    from tqdm import tqdm

    ready: dict[int, Sequence | LensError] = {}
    printed = 0
    try:
        with tqdm(total=len(questions), unit="question", file=sys.stderr, disable=None, leave=False) as bar:
            for index, answer in answers(engine, questions, variants, sampling):
                ready[index] = answer
                bar.update()
                while printed in ready:
                    bar.clear()
                    printer.print(questions[printed], ready.pop(printed))
                    printed += 1
    finally:
        for index in sorted(ready):
            printer.print(questions[index], ready[index])


def answers(engine, questions: Sequence[Question], variants: Sequence,
            sampling) -> Iterator[tuple[int, Sequence | LensError]]:
    """(index, columns or what is wrong with the question) as they finish. Raises the first error where all are bad."""
    good, bad = [], {}
    for index, question in enumerate(questions):
        try:
            check(engine, question, variants, sampling)
            good.append(index)
        except LensError as err:
            bad[index] = err
    if not good:
        raise bad[0]
    yield from bad.items()
    for which, columns in engine.answer_all([questions[index] for index in good], variants, sampling):
        yield good[which], columns


def check(engine, question: Question, variants: Sequence, sampling) -> None:
    """Raises BadQuestion for an empty question, or one that is too long with its answer."""
    longest = max(len(engine.prompt.encode(question.text, question.instruction, v.prompt)) for v in variants)
    if longest + sampling.max_new_tokens > engine.window:
        raise BadQuestion("question-too-long", tokens=longest, answer=sampling.max_new_tokens, window=engine.window)


@command
def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    questions = asked(args)
    check_strengths(args.strength)
    sampling = sampling_of(args, repetition_penalty=args.repetition_penalty, stop_at_loop=args.stop_at_loop)
    from compare.engine.engine import Engine
    from compare.engine.interface import PLAIN

    quiet_transformers()
    engine = Engine(args.base, chosen_adapters(args), args.device, args.dtype)
    note_base_alone(args)
    variants = engine.variants(args.strength) + [PLAIN] * args.plain_prompt
    printer = Printer(engine, args)
    with interruptible("interrupted; the answers that were finished are above"):
        if len(questions) == 1 and sys.stdout.isatty() and not args.json:
            watch(engine, questions[0], variants, sampling, printer)
        else:
            ask_all(engine, questions, variants, sampling, printer)
    return BAD_INPUT if printer.failed else 0


if __name__ == "__main__":
    sys.exit(main())
