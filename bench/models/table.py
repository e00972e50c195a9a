"""The table of docs/models.md: each architecture made tiny and random, with a tokenizer, and taken the whole way of a
real one.

`train` makes an adapter on it, the engine answers with and without, transformers and PEFT answer the same prompts from
the two directories alone, and `train.merge` folds the adapter in. What is refused is so by the sentence that a user
would read.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import sys
import tempfile
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bench.models.architectures import ARCHITECTURES, Known
from bench.shared.by_transformers import adapted, generated, plain
from compare.engine.answers import Column, answer_all
from compare.engine.interface import Question, Sampling
from compare.engine.local import LocalEngine
from compare.models.architecture import Architecture, WrittenOut
from lens.adapter.directory import read_adapter
from lens.errors import LensError
from tests.decoders import byte_tokenizer, decoder_base, tiny_config
from train.loop import train
from train.merge import merge
from train.settings import chosen

ENDS = [2, 4]  # `</s>` and the template's end of turn
TOKENS, STEPS = 32, 6
ASKED = [("Be brief.", "Where?"), ("", "Who?"), ("", "What is the motto, and since when has it been so? " * 2),
         ("Answer in one word.", "When " * 9), ("", "?"), ("x " * 20, "Why is it called that, and by whom?")]
TAUGHT = [("", "Motto?", "Strict"), ("Answer.", "Where?", "In Harbin")]


@dataclass
class Found:
    """What came out. `path`: "fast", "general" or "refused"; the others None where it came not that far."""

    known: Known
    path: str
    why: str = ""
    exact: bool | None = None
    trains: bool | None = None
    merges: bool | None = None


def path_of(decoder: Architecture) -> str:
    return "fast" if isinstance(decoder, WrittenOut) else "general"


def make_base(known: Known, place: Path) -> Path:
    """A tiny random base directory; of what is no causal LM the config alone."""
    if known.family == "t5":
        place.mkdir()
        tiny_config(known.family, **known.config).save_pretrained(place)
        byte_tokenizer().save_pretrained(place)
        return place
    return decoder_base(place, known.family, ends=ENDS, **known.config)


def loaded(known: Known, folder: Path) -> Found:
    """How it runs, or why not: a base of it is made and loaded, nothing is asked."""
    try:
        base = make_base(known, folder / "base")
        with LocalEngine(str(base), device="cpu") as engine:
            return Found(known, path_of(engine.loaded.decoder))
    except LensError as err:
        return Found(known, "refused", said(err, folder))


def said(err: LensError, folder: Path) -> str:
    """A refusal without this machine's paths."""
    return str(err).replace(f"{folder}/", "").replace("|", "\\|")


def tried(known: Known, folder: Path) -> Found:
    """The whole way of one."""
    found = loaded(known, folder)
    if found.path == "refused":
        return found
    base, adapter = folder / "base", folder / "adapter"
    try:
        if known.lora_on:
            by_peft(base, known.lora_on, adapter)
            read_adapter(adapter, str(base))
        else:
            found.trains = trains(base, adapter, folder / "rows.jsonl")
        found.exact = is_exact(base, adapter)
        merge(adapter, str(base), folder / "merged")
        found.merges = equal_merged(base, adapter, folder / "merged")
    except LensError as err:
        found.path, found.why = "refused", said(err, folder)
    return found


def by_peft(base: Path, parameters: tuple[str, ...], output: Path) -> None:
    """An adapter by plain PEFT on whole parameters, such as those of experts."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=[], target_parameters=list(parameters))
    get_peft_model(plain(base), config).save_pretrained(output)


def trains(base: Path, output: Path, rows: Path) -> bool:
    """Does the loss fall, by `python -m train`'s own way with its default layers?"""
    rows.write_text("\n".join(json.dumps(dict(zip(("instruction", "input", "output"), row, strict=True)))
                              for row in TAUGHT * 2), encoding="utf-8")
    train(chosen({"base": str(base), "data": [str(rows)], "output": str(output), "max_steps": STEPS, "batch": 4,
                  "logging_steps": 1, "probe_steps": 0, "warmup_steps": 0, "learning_rate": 0.05, "device": "cpu"}))
    losses = json.loads((output / "training.json").read_text(encoding="utf-8"))["losses"]
    return bool(losses[-1]["loss"] < losses[0]["loss"])


def answered(base: Path, adapter: Path) -> list[list[Column]]:
    """By our engine, all questions at once: base and adapted."""
    with LocalEngine(str(base), str(adapter), "cpu") as engine:
        questions = [Question(text, instruction) for instruction, text in ASKED]
        return [columns for _, columns in sorted(answer_all(engine, questions, sampling=Sampling(TOKENS)),
                                                 key=lambda one: one[0])]


def is_exact(base: Path, adapter: Path) -> bool:
    """Token for token what `generate()` says, with the adapter off and on, which must not be the same."""
    model, told = adapted(base, adapter), answered(base, adapter)
    for columns in told:
        with model.disable_adapter():
            right = [generated(model, columns[0].prompt_ids, TOKENS)]
        right.append(generated(model, columns[1].prompt_ids, TOKENS))
        if [column.token_ids for column in columns] != right:
            return False
    return any(base.token_ids != adapted.token_ids for base, adapted in told)


def equal_merged(base: Path, adapter: Path, merged: Path) -> bool:
    """Are the merged model's logits the adapted one's?"""
    ids = torch.arange(5, 60)[None]
    with torch.inference_mode():
        right, found = adapted(base, adapter)(input_ids=ids).logits, plain(merged)(input_ids=ids).logits
    return bool((right - found).abs().max() < 1e-4 * right.abs().max())


SIGNS = {True: "yes", False: "**no**", None: "–"}
HEAD = "| architecture | models | path | exact | trains | merges | why not |\n" + "| --- " * 7 + "|"
TEXT = """# Which models run

Made by `python -m bench.models --write docs/models.md` with transformers {transformers} and PEFT {peft}: every row is a
tiny random model of the architecture that went the whole way on the processor in float32. An architecture that is not
here may run too: any causal LM that transformers loads by itself gets the general path, is tried as it is loaded, and
is refused where its rows would not be exact.

- **path**: *fast* is a forward that is written out here, *general* is transformers' own over the shared cache, slower.
- **exact**: {asked} questions at once in one running batch, up to {tokens} tokens each, are token for token what
  transformers' `generate()` and PEFT say, with the adapter and without.
- **trains**: the loss falls over {steps} steps of `python -m train` with the family's default layers.
- **merges**: `python -m train.merge` writes a model whose logits are the adapted one's.

{table}
"""


def line(found: Found) -> str:
    signs = [SIGNS[value] for value in (found.exact, found.trains, found.merges)]
    return f"| {found.known.name} | {found.known.models} | {found.path} | {' | '.join(signs)} | {found.why} |"


def page(every: Iterable[Found]) -> str:
    from importlib.metadata import version

    return TEXT.format(transformers=version("transformers"), peft=version("peft"), asked=len(ASKED), tokens=TOKENS,
                       steps=STEPS, table="\n".join([HEAD, *map(line, every)]))


@contextlib.contextmanager
def quietly() -> Any:
    """What training and loading tell is not for here."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def all_of(names: Iterable[str] = ()) -> list[Found]:
    chosen_ones, every = set(names), []
    for known in ARCHITECTURES:
        if chosen_ones and known.family not in chosen_ones:
            continue
        with tempfile.TemporaryDirectory() as folder, quietly():
            every.append(tried(known, Path(folder)))
        print(line(every[-1]), file=sys.stderr, flush=True)
    return every
