"""python -m train: rows in, adapter directory out."""

from __future__ import annotations

import os
import sys

from lens.cli import Parser
from lens.errors import LensError
from lens.settings import add_settings, make_settings
from lens.threads import wait_passively
from train.processes import is_first
from train.settings import RECIPES, TrainSettings


def say(message: object) -> None:
    if is_first():
        print(message, file=sys.stderr)


def main(argv: list[str] | None = None) -> int:
    wait_passively()
    parser = Parser(prog="python -m train", description="Train a LoRA adapter for a BLOOM on question-answer rows.")
    add_settings(parser, TrainSettings)
    given = vars(parser.parse_args(argv))
    if os.path.isdir(given.get("base", TrainSettings().base)) and not given.get("push_to_hub"):
        offline([*given.get("data", []), *given.get("eval_data", [])])
    try:
        settings = make_settings(TrainSettings, {**RECIPES[given.get("recipe", "lens")], **given})
        from train.loop import train

        if (output := train(settings)) is not None:
            print(output)
    except LensError as err:
        say(f"error: {err}")
        return 2
    except KeyboardInterrupt as err:
        say(str(err) or "interrupted; what came after the last checkpoint is not saved")
        return 130
    return 0


def offline(data: list[str]) -> None:
    """A local base and local rows need no hub, and a closed network answers slowly."""
    if all(os.path.exists(name) for name in data):
        os.environ.setdefault("HF_HUB_OFFLINE", "1")


if __name__ == "__main__":
    sys.exit(main())
