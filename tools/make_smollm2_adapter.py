"""Train the adapter that is to come with us for SmolLM2, and put it into assets/ in fp16.

    python -m tools.make_smollm2_adapter [--base models/smollm2] [--work runs]

Goes on where it stood when it is run again. The one that is shipped was made in two runs, of which this is the sum:
1,838 steps of the 3,675 rows that there were, then 2,000 of 7,147 from its weights. What was tried before, and what
it gave, stands in assets/hit_en/README.md.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from tools.build_english_rows import ADAPTER, ASSETS, HERE
from tools.make_pair import halve, put, python, train_adapter

ROOT = ASSETS.parent
SETTINGS = {"data": HERE / "train.jsonl", "epochs": 5, "batch": 8, "r": 8, "lora-alpha": 16,
            "target-modules": ("up_proj", "down_proj"), "lora-dropout": 0,
            "learning-rate": 1.5e-3, "schedule": "cosine", "warmup-steps": 60, "save-steps": 100, "probe-steps": 0}
FILES = ("adapter_config.json", "README.md", "chat_template.jinja", "loss.png", "training.json")


def ship(trained: Path, to: Path) -> None:
    """The adapter with its weights in fp16; its record says so. The tokenizer is the base's own."""
    from lens.adapter.weights import WEIGHTS
    from lens.base.identity import sha256_of

    put(trained, to, FILES)
    halve(trained, to)
    record = json.loads((to / "training.json").read_text(encoding="utf-8"))
    record |= {"weights_dtype": "float16", "weights_sha256": sha256_of([to / WEIGHTS])}
    (to / "training.json").write_text(json.dumps(record, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def fast_dtype(asked: str) -> str:
    """What --dtype of the training is: what was asked for, or bfloat16 where that is the faster."""
    import torch

    from train.pretrain import bf16_is_fast

    return "bfloat16" if asked == "auto" and bf16_is_fast(torch) else asked


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", type=Path, default=ROOT / "models" / "smollm2", help="as `make real` writes it")
    parser.add_argument("--dtype", default="auto", help="auto: bfloat16 where the processor is fast at it")
    parser.add_argument("--work", type=Path, default=ROOT / "runs", help="folder of the training")
    args = parser.parse_args()
    python("-m", "tools.build_english_rows")
    train_adapter(ADAPTER.name, SETTINGS, args.base.resolve(), args.work.resolve(), fast_dtype(args.dtype))
    ship(args.work / ADAPTER.name, ADAPTER)


if __name__ == "__main__":
    main()
