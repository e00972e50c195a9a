"""The one writer of adapter directories: filled aside, moved into place whole, readable by whom the umask lets."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lens.adapter.find import CONFIG, PROMPTS
from lens.adapter.weights import WEIGHTS
from lens.base.identity import sha256_of
from lens.file_mode import follow_umask
from lens.strict_json import dumps

PARTS = (WEIGHTS, *PROMPTS, "training.json", "README.md", CONFIG)  # moved in this order: the config last
PART = ".part"  # what is being written lies in here, inside --output


def write_adapter(model: Any, tokenizer: Any, about: dict[str, Any], card: str, output: Path) -> None:
    """Every part of an adapter directory into `output`, which is made.

    `model`: a PeftModel; `about`: `training.json`'s contents, to which the sha256 of the weights is added; `card`: the
    text of `README.md`.
    """
    output.mkdir(parents=True, exist_ok=True)
    model.peft_config["default"].base_model_name_or_path = about["base"]["name"]
    model.save_pretrained(output, save_embedding_layers=False)
    save_tokenizer(tokenizer, output)
    about = {**about, "weights_sha256": sha256_of([output / WEIGHTS])}
    (output / "training.json").write_text(dumps(about, indent=1), encoding="utf-8")
    (output / "README.md").write_text(card, encoding="utf-8")
    follow_umask(output)


def save_tokenizer(tokenizer: Any, output: Path) -> None:
    """Raises OSError where it cannot be written: its Rust half says so by a plain `Exception`."""
    try:
        tokenizer.save_pretrained(output)
    except Exception as err:
        if type(err) is Exception:
            raise OSError(str(err)) from err
        raise


def replace_adapter(write: Callable[[Path], None], output: Path) -> None:
    """Let `write` fill a directory aside, then move its parts into `output`."""
    part = output / PART
    shutil.rmtree(part, ignore_errors=True)
    write(part)
    for name in PARTS:
        os.replace(part / name, output / name)
    shutil.rmtree(part)


def move_whole(part: Path, final: Path) -> None:
    """Make the finished directory `part` appear as `final` by one rename; what stood there goes."""
    for file in part.iterdir():
        with file.open("rb") as handle:
            os.fsync(handle.fileno())  # a rename must not outlive its contents in a power cut
    if final.exists():
        os.replace(final, part.with_name(f"old-{final.name}"))
    os.replace(part, final)
    shutil.rmtree(part.with_name(f"old-{final.name}"), ignore_errors=True)
