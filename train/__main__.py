"""python -m train: rows in, adapter directory out."""

from __future__ import annotations

import os
import sys

from train.config import BadInput, Parser, add_settings, make_settings
from train.settings import RECIPES, TrainSettings


def main(argv: list[str] | None = None) -> int:
    parser = Parser(prog="python -m train", description="Train a LoRA adapter for a BLOOM on question-answer rows.")
    add_settings(parser, TrainSettings)
    given = vars(parser.parse_args(argv))
    # PEFT asks the hub about the base at every save, which a closed network answers slowly.
    if os.path.isdir(given.get("base", TrainSettings().base)):
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        settings = make_settings(TrainSettings, {**RECIPES[given.get("recipe", "lens")], **given})
        from train.loop import train

        print(train(settings))
    except BadInput as err:
        print(f"error: {err}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
