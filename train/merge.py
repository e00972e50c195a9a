"""python -m train.merge: fold an adapter into a standalone BLOOM that needs no PEFT.

The merged model's logits are compared with the adapter's before anything is written, and the time a
token takes is measured for the base, the adapter and the merged model: merged, an adapter costs nothing.
"""

from __future__ import annotations

import copy
import json
import os
import shutil
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from lens.adapter_config import LINEAR_LAYERS
from lens.cli import Parser
from lens.embedded import EMBEDDED_BASE
from lens.errors import BadInput, first_line
from lens.threads import wait_passively

TOLERANCE = 1e-3  # of logits in float32; merging adds s·BA to W and rounds once
ROUNDS, TOKENS = 5, 16  # of each model in turn; new tokens a round
# Values that fold into the base's own matrices; PiSSA and the like count on a base that was changed.
FOLDS: dict[str, list] = {
    "peft_type": ["LORA"], "use_dora": [False, None], "bias": ["none", None], "modules_to_save": [None, []],
    "trainable_token_indices": [None], "init_lora_weights": [True, False, "gaussian", None]}


@dataclass(frozen=True)
class Merged:
    """What was measured: the largest logit difference, and milliseconds a new token, by model."""

    difference: float
    milliseconds: dict[str, float]


def check_adapter(directory: Path) -> None:
    """Refuse what is no LoRA of BLOOM before PEFT reads it. Raises BadInput."""
    from train.checkpoint import check_adapter_keys

    for name in ("adapter_config.json", "adapter_model.safetensors"):
        if not (directory / name).is_file():
            raise BadInput(f"{directory} is no adapter directory: {name} is missing")
    try:
        config = json.loads((directory / "adapter_config.json").read_text(encoding="utf-8"))
        rank, targets = config["r"], config["target_modules"]
    except (ValueError, KeyError, TypeError, RecursionError) as err:
        raise BadInput(f"{directory}: adapter_config.json cannot be read ({err!r})") from err
    for key, allowed in FOLDS.items():
        if config.get(key) not in allowed:
            raise BadInput(f"{directory}: {key} is {config.get(key)!r}; only {allowed[0]!r} can be merged")
    if not isinstance(rank, int) or not 1 <= rank <= 1024:
        raise BadInput(f"{directory}: r is {rank!r}; allowed: 1 to 1024")
    if not isinstance(targets, list) or not set(targets) <= set(LINEAR_LAYERS):
        raise BadInput(f"{directory}: target_modules is {str(targets)[:80]}; allowed: {', '.join(LINEAR_LAYERS)}")
    check_adapter_keys(directory / "adapter_model.safetensors")


def attach(model, directory: Path):
    """The base with a checked adapter, as a PeftModel in evaluation mode. Raises BadInput."""
    from peft import LoraConfig, PeftModel

    from train.checkpoint import load_adapter_weights

    try:
        adapted = PeftModel(model, LoraConfig.from_pretrained(str(directory)))
    except (ValueError, TypeError, KeyError) as err:
        raise BadInput(f"{directory}: adapter_config.json cannot be used ({first_line(err)})") from err
    load_adapter_weights(adapted, directory)
    return adapted.eval()


def merged_copy(adapted):
    """The merged model, and the adapted one as it was: all but the adapted matrices is shared, not copied."""
    shared = {id(p): p for name, p in adapted.named_parameters() if ".base_layer." not in name}
    return copy.deepcopy(adapted, shared).merge_and_unload(safe_merge=True)


def milliseconds_a_token(models: dict, prompt) -> dict[str, float]:
    """Median over rounds of greedy decoding, the models in turn, so that a busy machine is busy for all."""
    import torch

    taken: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(ROUNDS + 1):
        for name, model in models.items():
            began = time.perf_counter()
            with torch.inference_mode():
                model.generate(input_ids=prompt, attention_mask=torch.ones_like(prompt), do_sample=False,
                               max_new_tokens=TOKENS, min_new_tokens=TOKENS, use_cache=True)
            taken[name].append((time.perf_counter() - began) * 1000 / TOKENS)
    return {name: statistics.median(times[1:]) for name, times in taken.items()}  # the first warms up


def merge(adapter_dir: Path, base: str, output: Path) -> Merged:
    """Write the merged model to `output`, made whole by one rename. Raises BadInput."""
    import torch

    from train.base import load_base, load_tokenizer

    check_adapter(adapter_dir)
    if output.exists() and (output.is_file() or any(output.iterdir())):
        raise BadInput(f"--output {output} is not empty; name a new directory")
    tokenizer, model = load_tokenizer(base), load_base(base).eval()
    plain = copy.deepcopy(model, {id(p): p for p in model.parameters()})  # the base without wrappers, same weights
    adapted = attach(model, adapter_dir)
    merged = merged_copy(adapted)
    probe = torch.arange(32).remainder(model.config.vocab_size)[None]
    with torch.inference_mode():
        difference = (merged(input_ids=probe).logits - adapted(input_ids=probe).logits).abs().max().item()
    if not difference <= TOLERANCE:
        raise BadInput(f"merging changed logits by {difference:.2g} (allowed {TOLERANCE}); nothing was written")
    times = milliseconds_a_token({"base": plain, "unmerged": adapted, "merged": merged}, probe)
    write_whole(merged, tokenizer, output)
    return Merged(difference, times)


def write_whole(model, tokenizer, output: Path) -> None:
    """The model's directory, written aside and renamed. Raises BadInput where it cannot be written."""
    from safetensors import SafetensorError

    from train.checkpoint import save_tokenizer

    part = output.with_name(output.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        model.save_pretrained(part)
        save_tokenizer(tokenizer, part)
        if output.is_dir():
            output.rmdir()
        os.replace(part, output)
    except (OSError, SafetensorError) as err:
        shutil.rmtree(part, ignore_errors=True)
        raise BadInput(f"--output {output} cannot be written: {err}; nothing is left there") from err


def main(argv: list[str] | None = None) -> int:
    wait_passively()
    parser = Parser(prog="python -m train.merge", description="Fold an adapter into a standalone BLOOM.")
    parser.add_argument("adapter_dir", type=Path)
    parser.add_argument("--output", type=Path, required=True, help="directory of the merged model; must be new")
    parser.add_argument("--base", default=EMBEDDED_BASE, help="base model the adapter was trained on")
    args = parser.parse_args(argv)
    os.environ.setdefault("HF_HUB_OFFLINE", "1" if Path(args.base).is_dir() else "0")
    try:
        found = merge(args.adapter_dir, args.base, args.output)
    except BadInput as err:
        print(f"error: {err}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    print(f"logits differ by at most {found.difference:.2g} from the unmerged adapter's", file=sys.stderr)
    print(f"milliseconds a token (median of {ROUNDS}): "
          + ", ".join(f"{name} {value:.2f}" for name, value in found.milliseconds.items()), file=sys.stderr)
    print(args.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
