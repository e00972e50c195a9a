"""python -m train.merge: fold an adapter into a standalone BLOOM that needs no PEFT.

The merged model's logits are compared with the adapter's before anything is written.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from train.config import BadInput, Parser
from train.settings import EMBEDDED_BASE

TOLERANCE = 1e-3  # of logits in float32; merging adds s·BA to W and rounds once


def merge(adapter_dir: Path, base: str, output: Path) -> float:
    """Write the merged model to `output`; returns the largest logit difference seen before saving."""
    import torch
    from peft import PeftModel

    from train.loop import load_base, load_tokenizer

    for name in ("adapter_config.json", "adapter_model.safetensors"):
        if not (adapter_dir / name).is_file():
            raise BadInput(f"{adapter_dir} is no adapter directory: {name} is missing")
    if output.exists() and (output.is_file() or any(output.iterdir())):
        raise BadInput(f"--output {output} is not empty; name a new directory")
    tokenizer, model = load_tokenizer(base), load_base(base)
    try:
        adapted = PeftModel.from_pretrained(model, adapter_dir, torch_device="cpu").eval()
    except (RuntimeError, ValueError, KeyError) as err:
        raise BadInput(f"{adapter_dir} does not fit {base}: {str(err).splitlines()[0]}") from err
    probe = torch.arange(32).remainder(model.config.vocab_size)[None]
    with torch.inference_mode():
        before = adapted(input_ids=probe).logits
    merged = adapted.merge_and_unload(safe_merge=True)
    with torch.inference_mode():
        difference = (merged(input_ids=probe).logits - before).abs().max().item()
    if difference > TOLERANCE:
        raise BadInput(f"merging changed logits by {difference:.2g} (allowed {TOLERANCE}); nothing was written")
    part = output.with_name(output.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    merged.save_pretrained(part)
    tokenizer.save_pretrained(part)
    if output.is_dir():
        output.rmdir()
    os.replace(part, output)
    return difference


def main(argv: list[str] | None = None) -> int:
    parser = Parser(prog="python -m train.merge", description="Fold an adapter into a standalone BLOOM.")
    parser.add_argument("adapter_dir", type=Path)
    parser.add_argument("--output", type=Path, required=True, help="directory of the merged model; must be new")
    parser.add_argument("--base", default=EMBEDDED_BASE, help="base model the adapter was trained on")
    args = parser.parse_args(argv)
    os.environ.setdefault("HF_HUB_OFFLINE", "1" if Path(args.base).is_dir() else "0")
    try:
        difference = merge(args.adapter_dir, args.base, args.output)
    except BadInput as err:
        print(f"error: {err}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    print(f"logits differ by at most {difference:.2g} from the unmerged adapter's", file=sys.stderr)
    print(args.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
