"""The command line's manners, once for all entry points: how a command speaks, fails and ends; options they share.

    @command
    def main(argv: list[str] | None = None) -> int: ...

    if __name__ == "__main__":
        sys.exit(main())

Exit status 0: done; 1: a gate failed; 2: bad input, told in one line that begins `error: `; 130: interrupted; 141: the
reader of its output left, as `| head -1` does. Of several processes (torchrun) the first one speaks.
"""

from __future__ import annotations

import argparse
import functools
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from lens.embedded import EMBEDDED_ADAPTER, EMBEDDED_BASE, TIMELINE
from lens.errors import LensError
from lens.processes import is_first
from lens.strict_json import dumps
from lens.terminal_text import one_line
from lens.threads import wait_passively

BASE_HELP = "base model: a directory, or a hub name such as bigscience/bloom-1b1"
DEVICE_HELP = "auto, cpu or cuda; auto: a GPU when there is one"
CHAT_TEMPLATE_HELP = "file of a chat template to use in place of the base's own"
DTYPES = ("auto", "float32", "bfloat16", "float16")
DTYPE_HELP = "auto: float32 on CPU, bfloat16 on GPUs that have it, else float16"
GATE_FAILED, BAD_INPUT, INTERRUPTED, READER_LEFT = 1, 2, 130, 141


def say(line: object, everyone: bool = False) -> None:
    """One line on stderr, whatever the text in it; from every process where what is said befell one of them."""
    if everyone or is_first():
        print(one_line(line), file=sys.stderr, flush=True)


def print_json(value: Any) -> None:
    """One line on stdout, at once and whole; in ASCII where the terminal's encoding lacks a character."""
    encoding = sys.stdout.encoding or "utf-8"
    try:
        line = (dumps(value) + "\n").encode(encoding)
    except UnicodeEncodeError:
        line = (dumps(value, ascii=True) + "\n").encode(encoding)
    sys.stdout.flush()
    with uninterrupted():
        while line:  # print() loses what a pipe does not take at once where PYTHONUNBUFFERED is set
            line = line[sys.stdout.buffer.write(line):]
        sys.stdout.flush()


class Parser(argparse.ArgumentParser):
    """argparse with these manners."""

    def error(self, message: str) -> NoReturn:
        say(f"error: {message} (see {self.prog} --help)")
        sys.exit(BAD_INPUT)


def command(main: Callable[[list[str] | None], int]) -> Callable[..., int]:
    """An entry point that returns its exit status and never ends in a traceback over what is not its fault."""

    @functools.wraps(main)
    def mannered(argv: list[str] | None = None) -> int:
        wait_passively()
        for stream in (sys.stdout, sys.stderr):  # a terminal that lacks a character gets its escape
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")
        try:
            status = ended(main, argv)
            sys.stdout.flush()
        except BrokenPipeError:
            nobody_reads()
            return READER_LEFT
        return status

    return mannered


def ended(main: Callable[[list[str] | None], int], argv: list[str] | None) -> int:
    """The exit status of `main`, what ended it told on stderr."""
    try:
        return main(argv)
    except SystemExit as end:  # argparse: --help, or a bad option
        return int(end.code or 0)
    except LensError as err:
        say(f"error: {err}")
        return BAD_INPUT
    except KeyboardInterrupt as err:
        if str(err):
            say(err)
        return INTERRUPTED


def nobody_reads() -> None:
    """Let what is still buffered go nowhere: Python would complain of it at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


@contextmanager
def interruptible(kept: str) -> Iterator[None]:
    """Within it an interruption that says nothing of its own is told as `kept`: what is saved, and how to go on."""
    try:
        yield
    except KeyboardInterrupt as err:
        raise KeyboardInterrupt(str(err) or kept) from err


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Within it Ctrl-C waits, so that a line is printed whole or not at all; a second one, as when nobody reads what is
    printed, does not. Elsewhere than in the main thread, which alone hears it, nothing changes."""
    before = signal.getsignal(signal.SIGINT)
    if not callable(before) or threading.current_thread() is not threading.main_thread():
        yield
        return
    heard: list[tuple[int, FrameType | None]] = []

    def wait(number: int, frame: FrameType | None) -> None:
        heard.append((number, frame))
        if len(heard) > 1:
            before(number, frame)

    signal.signal(signal.SIGINT, wait)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if heard:
        before(*heard[0])


def same_place(one: str, other: str) -> bool:
    """Do two names mean one directory, whether relative, with a slash at the end, or through a link?"""
    return one == other or (os.path.isdir(one) and os.path.realpath(one) == os.path.realpath(other))


def add_base_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--base", default=os.environ.get("BASE_MODEL") or EMBEDDED_BASE,
                        help=f"{BASE_HELP} (default: the embedded one)")


def add_chat_template_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--chat-template", default="", metavar="FILE", help=CHAT_TEMPLATE_HELP)


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """`--base`, `--adapter`, `--device`, `--dtype`, `--chat-template`."""
    add_base_option(parser)
    parser.add_argument("--adapter", nargs="+", default=os.environ.get("ADAPTER", "").split(),
                        help="adapter directories or hub names (default: the shipped `lens`, with the embedded base)")
    parser.add_argument("--device", default="auto", help=DEVICE_HELP)
    parser.add_argument("--dtype", default="auto", choices=DTYPES, help=DTYPE_HELP)
    add_chat_template_option(parser)


def chosen_adapters(args: argparse.Namespace) -> list[str]:
    """The adapters asked for; where none is, the shipped one for the embedded base."""
    return args.adapter or ([EMBEDDED_ADAPTER] if same_place(args.base, EMBEDDED_BASE) else [])


def chosen_timeline(args: argparse.Namespace) -> list[str]:
    """The shipped adapter's checkpoints by step, where that adapter alone is shown."""
    adapters = chosen_adapters(args)
    if len(adapters) != 1 or not same_place(adapters[0], EMBEDDED_ADAPTER):
        return []
    return [str(p) for p in sorted(TIMELINE.glob("step-*"), key=lambda p: int(p.name.removeprefix("step-")))]


def note_base_alone(args: argparse.Namespace) -> None:
    """Say it where the base is shown without an adapter, though nobody asked for that."""
    if not chosen_adapters(args):
        say(f"note: the shipped adapter does not fit base {args.base}, which is shown alone; give its own by --adapter")


def say_notes(notes: Iterable[object]) -> None:
    """Say what an adapter directory's judge noted: a name it was given, a file that was passed over."""
    for note in notes:
        say(f"note: {note}")


def stay_offline(*names: str) -> None:
    """Where all that is named lies on this disk no hub is needed, and a closed network answers slowly."""
    if all(Path(name).exists() for name in names):
        os.environ.setdefault("HF_HUB_OFFLINE", "1")


def quiet_transformers() -> None:
    """No bar for the moment in which weights are loaded."""
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
