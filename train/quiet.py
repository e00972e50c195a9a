"""What libraries say to one another during a training, kept from the person who trains: it is wrong here, or no use."""

from __future__ import annotations

import contextlib
import logging
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

OURS = Path(__file__).resolve().parent.parent
# On resume Trainer warns of every setting that is another than before; those that may be are told by `train.resume`.
WRONG_HERE = ("do not match the ones in the `trainer_state.json`",)


class NotWrong(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return not any(text in record.getMessage() for text in WRONG_HERE)


@contextlib.contextmanager
def plain_words() -> Iterator[None]:
    """Within it our own warnings are a line each, without a file and its line; libraries' warnings are not shown."""
    def show(message, category, filename, lineno, file=None, line=None):
        if Path(filename).is_relative_to(OURS / "lens") or Path(filename).is_relative_to(OURS / "train"):
            print(f"note: {message}", file=sys.stderr)

    logger, quiet = logging.getLogger("transformers.trainer_utils"), NotWrong()
    logger.addFilter(quiet)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = show
            yield
    finally:
        logger.removeFilter(quiet)
