"""python -m train.merge: fold an adapter into a standalone BLOOM that needs no PEFT.

The merged model's logits are compared with the adapter's before anything is written, and the time a
token takes is measured for the base, the adapter and the merged model: merged, an adapter costs nothing.
"""

from __future__ import annotations

import copy
import os
import shutil
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from lens.adapter.directory import check_base, read_adapter
from lens.adapter.write import save_tokenizer
from lens.cli import Parser, add_base_option, command, interruptible, quiet_transformers, say, say_notes, stay_offline
from lens.errors import BadAdapter, BadSetting, Note, first_line
from lens.file_mode import follow_umask

TOLERANCE = 1e-3  # of logits in float32; merging adds s·BA to W and rounds once
ROUNDS, TOKENS = 5, 16  # of each model in turn; new tokens a round


@dataclass(frozen=True)
class Merged:
    """What was measured: the largest logit difference, and milliseconds a new token, by model; and what to tell."""

    difference: float
    milliseconds: dict[str, float]
    notes: tuple[Note, ...]


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


def merge(adapter_dir: Path | str, base: str, output: Path) -> Merged:
    """Write the merged model to `output`, made whole by one rename. Raises BadAdapter, BadBase or BadSetting."""
    import torch

    from lens.adapter.for_peft import attach
    from lens.base.files import find_base
    from lens.base.loading import load_base, load_tokenizer

    base_files = find_base(base)
    tokenizer = load_tokenizer(base_files)  # first: a broken base is told as such
    files = read_adapter(adapter_dir)
    if output.exists() and (output.is_file() or any(output.iterdir())):
        raise BadSetting("merge-output-not-empty", output=output)
    notes = (*files.notes, *check_base(base, [files]))
    model = load_base(base_files, "cpu", "float32", tokenizer).model
    plain = copy.deepcopy(model, {id(p): p for p in model.parameters()})  # the base without wrappers, same weights
    adapted = attach(model, [files])
    merged = merged_copy(adapted)
    probe = torch.arange(32).remainder(model.config.vocab_size)[None]
    with torch.inference_mode():
        difference = (merged(input_ids=probe).logits - adapted(input_ids=probe).logits).abs().max().item()
    if not difference <= TOLERANCE:
        raise BadAdapter("merge-changes-logits", path=files.path, difference=difference, allowed=TOLERANCE)
    times = milliseconds_a_token({"base": plain, "unmerged": adapted, "merged": merged}, probe)
    write_whole(merged, tokenizer, output)
    return Merged(difference, times, notes)


def write_whole(model, tokenizer, output: Path) -> None:
    """The model's directory, written aside and renamed. Raises BadSetting where it cannot be written."""
    from safetensors import SafetensorError

    part = output.with_name(output.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        model.save_pretrained(part)
        save_tokenizer(tokenizer, part)
        follow_umask(part)
        if output.is_dir():
            output.rmdir()
        os.replace(part, output)
    except (OSError, SafetensorError) as err:
        shutil.rmtree(part, ignore_errors=True)
        raise BadSetting("merge-output-not-written", output=output, reason=first_line(err)) from err


@command
def main(argv: list[str] | None = None) -> int:
    parser = Parser(prog="python -m train.merge", description="Fold an adapter into a standalone BLOOM.")
    parser.add_argument("adapter_dir", help="adapter directory, or hub name")
    parser.add_argument("--output", type=Path, required=True, help="directory of the merged model; must be new")
    add_base_option(parser)
    args = parser.parse_args(argv)
    stay_offline(args.base, args.adapter_dir)
    with interruptible("interrupted; nothing was written"):
        quiet_transformers()
        found = merge(args.adapter_dir, args.base, args.output)
    say_notes(found.notes)
    say(f"logits differ by at most {found.difference:.2g} from the unmerged adapter's")
    say(f"milliseconds a token (median of {ROUNDS}): "
        + ", ".join(f"{name} {value:.2f}" for name, value in found.milliseconds.items()))
    print(args.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
