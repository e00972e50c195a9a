"""python -m train: rows in, adapter directory out."""

from __future__ import annotations

import sys

from lens.cli import command, interruptible
from train.quiet import plain_words
from train.settings import read_settings


@command
def main(argv: list[str] | None = None) -> int:
    settings = read_settings("python -m train", "Train a LoRA adapter for a decoder on question-answer rows.", argv)
    with interruptible("interrupted; what came after the last checkpoint is not saved"):
        from train.loop import train

        with plain_words():
            output = train(settings)
        if output is not None:
            print(output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
