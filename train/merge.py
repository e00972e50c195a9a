"""python -m train.merge: fold an adapter into a standalone model that needs no PEFT.

The merged model's logits are compared with the adapter's on the questions and answers that its record has, before
anything is written, and again as it loads from what was written, in the base's own dtype or the one asked for.
`merge.json` says what was merged into what. The time a token
takes is measured for the base, the adapter and the merged model: merged, an adapter costs nothing.
"""

from __future__ import annotations

import copy
import os
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lens.adapter.directory import AdapterFiles, check_base, read_adapter, recorded
from lens.adapter.write import save_tokenizer
from lens.base.identity import describe_base, same_base
from lens.cli import (
    Parser,
    add_base_option,
    add_chat_template_option,
    command,
    interruptible,
    quiet_transformers,
    say,
    say_notes,
    stay_offline,
)
from lens.errors import BadAdapter, BadSetting, Note, first_line
from lens.file_mode import follow_umask
from lens.strict_json import dumps

if TYPE_CHECKING:
    from torch import Tensor

    from lens.base.files import BaseFiles

TOLERANCE = 1e-3  # of logits in float32; merging adds s·BA to W and rounds once
ROUNDS, TOKENS = 5, 16  # of each model in turn; new tokens a round
MOST_ROWS = 8  # on which logits are compared


DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}  # as files name them, and torch


@dataclass(frozen=True)
class Merged:
    """What was measured: the largest logit difference of the model as it was written, in which dtype, and milliseconds
    a new token, by model; and what to tell."""

    difference: float
    dtype: str
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


def rows_to_compare(files: AdapterFiles, tokenizer) -> list[Tensor]:
    """`input_ids` (1, length) of the questions and answers that the adapter's training.json has; [] without any."""
    import torch

    from lens.chat import Prompt

    examples, prompt = recorded(files.path).get("examples"), Prompt(tokenizer)
    return [torch.tensor([[*prompt.encode(example["question"]), *prompt.encode_texts([example["answer"]])[0]]])
            for example in (examples if isinstance(examples, list) else [])[:MOST_ROWS]
            if isinstance(example, dict) and all(isinstance(example.get(key), str) for key in ("question", "answer"))]


def largest_difference(model, rows: Sequence[Tensor], right: Sequence[Tensor]) -> float:
    """Of the model's logits on the rows to those that are right."""
    import torch

    with torch.inference_mode():
        return max((model(input_ids=row).logits - logits).abs().max().item()
                   for row, logits in zip(rows, right, strict=True))


def check_output(output: Path) -> None:
    """Raises BadSetting where the output cannot become a new directory."""
    from train.setup import check_writable  # brings torch

    try:
        if output.exists() and (output.is_file() or any(output.iterdir())):
            raise BadSetting("merge-output-not-empty", output=output)
        check_writable(output)
    except OSError as err:
        raise BadSetting("merge-output-not-written", output=output, reason=err.strerror or err) from err


def stored_dtype(files: BaseFiles) -> str:
    """The dtype in which a base's weights are stored; of several the one that config.json names, or float32."""
    found = {tensor.dtype for tensor in files.tensors.values()}
    if len(found) == 1 and (only := found.pop()) in DTYPES:
        return DTYPES[only]
    named = str(files.config.get("dtype", files.config.get("torch_dtype")))
    return named if named in DTYPES.values() else "float32"


def merge(adapter_dir: Path | str, base: str, output: Path, dtype: str = "", template: str = "") -> Merged:
    """Write the merged model to `output`, made whole by one rename. Raises BadAdapter, BadBase or BadSetting.

    `dtype`: of what is written; the base's own where none is named. `template`: a file in place of the base's own.
    """
    import torch

    from lens.adapter.for_peft import attach
    from lens.base.files import find_base
    from lens.base.loading import load_base, load_tokenizer, template_notes

    check_output(output)
    base_files = find_base(base)
    tokenizer = load_tokenizer(base_files, template)  # first: a broken base is told as such
    files = read_adapter(adapter_dir, base_files)
    notes = [*template_notes(base, tokenizer), *files.notes, *check_base(base, [files], template)]
    proven = same_base(files.base, base_files) if files.base else None
    if not proven:
        notes.append(Note("merge-base-unproven", path=files.path, base=base))
    model = load_base(base_files, "cpu", "float32", tokenizer).model
    plain = copy.deepcopy(model, {id(p): p for p in model.parameters()})  # the base without wrappers, same weights
    adapted = attach(model, [files])
    merged = merged_copy(adapted)
    words = model.config.get_text_config().vocab_size
    rows = rows_to_compare(files, tokenizer) or [torch.arange(32).remainder(words)[None]]
    with torch.inference_mode():
        right = [adapted(input_ids=row).logits for row in rows]
    difference = largest_difference(merged, rows, right)
    if not difference <= TOLERANCE:
        raise BadAdapter("merge-changes-logits", path=files.path, difference=difference, allowed=TOLERANCE)
    if not largest_difference(plain, rows, right):
        raise BadAdapter("merge-changes-nothing", path=files.path)
    times = milliseconds_a_token({"base": plain, "unmerged": adapted, "merged": merged}, rows[0])
    dtype = dtype or stored_dtype(base_files)
    about = {"base": describe_base(base_files), "base_proven": bool(proven), "dtype": dtype,
             "adapter": {"name": files.name, "sha256": files.sha256}}

    def record(written: Path) -> dict[str, Any]:
        again = load_base(find_base(str(written)), "cpu", "float32", tokenizer).model
        return {**about, "largest_logit_difference": largest_difference(again, rows, right), "rows": len(rows)}

    done = write_whole(merged.to(getattr(torch, dtype)), tokenizer, output, record)
    return Merged(done["largest_logit_difference"], dtype, times, tuple(notes))


def write_whole(model, tokenizer, output: Path, record: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    """The model's directory with its `merge.json`, written aside and renamed. Raises BadSetting where it cannot be
    written. `record`: called with what was written."""
    from safetensors import SafetensorError

    part = output.with_name(output.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        model.save_pretrained(part)
        save_tokenizer(tokenizer, part)
        about = record(part)
        (part / "merge.json").write_text(dumps(about, indent=1), encoding="utf-8")
        follow_umask(part)
        if output.is_dir():
            output.rmdir()
        os.replace(part, output)
        return about
    except (OSError, SafetensorError) as err:
        shutil.rmtree(part, ignore_errors=True)
        raise BadSetting("merge-output-not-written", output=output, reason=first_line(err)) from err


@command
def main(argv: list[str] | None = None) -> int:
    parser = Parser(prog="python -m train.merge", description="Fold an adapter into a standalone model.")
    parser.add_argument("adapter_dir", help="adapter directory, or hub name")
    parser.add_argument("--output", type=Path, required=True, help="directory of the merged model; must be new")
    add_base_option(parser)
    add_chat_template_option(parser)
    parser.add_argument("--dtype", choices=list(DTYPES.values()), default="",
                        help="of the merged model's weights (default: the base's own)")
    args = parser.parse_args(argv)
    stay_offline(args.base, args.adapter_dir)
    with interruptible("interrupted; nothing was written"):
        quiet_transformers()
        found = merge(args.adapter_dir, args.base, args.output, args.dtype, args.chat_template)
    say_notes(found.notes)
    say(f"written in {found.dtype}; loaded from there, logits differ by at most {found.difference:.2g} from the "
        "unmerged adapter's")
    say(f"milliseconds a token (median of {ROUNDS}): "
        + ", ".join(f"{name} {value:.2f}" for name, value in found.milliseconds.items()))
    print(args.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
