"""The base a run starts from: its tokenizer, its weights, the device and the dtype.

Only safetensors are read: a pickled checkpoint can run code.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lens.chat import MARKERS
from lens.embedded import EMBEDDED_BASE
from lens.errors import BadInput, first_line


@dataclass(frozen=True)
class Compute:
    """Where a run computes, `cpu` or `cuda`, and in which dtype its products are made."""

    device: str
    dtype: str

    def __str__(self) -> str:
        return f"{self.device}, {self.dtype}"


def pick_compute(device: str, dtype: str) -> Compute:
    """What the settings and this machine allow. Raises BadInput for a GPU that is not there.

    float16 on a CPU becomes float32: the recipe `seed` asks for it on GPUs.
    """
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise BadInput("--device cuda: no CUDA GPU is visible; allowed here: cpu, auto")
    if device == "cpu" or not torch.cuda.is_available():
        return Compute("cpu", "bfloat16" if dtype == "bfloat16" else "float32")
    if dtype != "auto":
        return Compute("cuda", dtype)
    whole = torch.cuda.is_bf16_supported(including_emulation=False)
    return Compute("cuda", "bfloat16" if whole else "float16")


def check_base(name: str) -> None:
    """Refuse what is plainly no base, before anything is read. Raises BadInput."""
    path = Path(name)
    if not path.exists():
        return  # a hub name
    if not (path / "config.json").is_file():
        raise BadInput(f"--base {name}: no config.json there; give a BLOOM model directory")
    if not any(path.glob("*.safetensors")):
        found = next((p.name for p in sorted(path.glob("*.bin"))), "no weights")
        raise BadInput(f"--base {name} holds {found}; allowed: safetensors, because a .bin file can run code. Convert "
                       f"one you trust: python -c \"from transformers import AutoModelForCausalLM as M; "
                       f"M.from_pretrained('{name}').save_pretrained('NEW_DIR')\", and copy the tokenizer files")


@contextlib.contextmanager
def loading(name: str) -> Iterator[None]:
    """Turns what transformers raises over an unreadable base into BadInput."""
    try:
        yield
    except (OSError, ValueError, RuntimeError) as err:
        raise BadInput(f"--base {name} cannot be loaded: {first_line(err)}") from err


def load_tokenizer(name: str):
    """The tokenizer of a BLOOM directory or hub name, with the chat markers (in spare rows) and our template.

    Raises BadInput where there is no BLOOM or no spare row; the weights have not been read by then.
    """
    from transformers import AutoConfig, AutoTokenizer

    check_base(name)
    with loading(name):
        config = AutoConfig.from_pretrained(name)
    if config.model_type != "bloom":
        raise BadInput(f"--base {name} is a {config.model_type!r} model; allowed: bloom")
    with loading(name):
        tokenizer = AutoTokenizer.from_pretrained(name)
    if any(tokenizer.convert_tokens_to_ids(m) in (None, tokenizer.unk_token_id) for m in MARKERS):
        tokenizer.add_special_tokens({"extra_special_tokens": list(MARKERS)})
    if len(tokenizer) > config.vocab_size:
        raise BadInput(f"--base {name}: its embedding has {config.vocab_size:,} rows, too few for the tokenizer's "
                       f"{len(tokenizer):,} tokens with our two markers; give a base with 2 spare rows")
    if not tokenizer.chat_template:
        tokenizer.chat_template = (Path(EMBEDDED_BASE) / "chat_template.jinja").read_text(encoding="utf-8")
    return tokenizer


def load_base(name: str):
    """The model in float32; safetensors only. Raises BadInput."""
    import torch
    from transformers import AutoModelForCausalLM

    check_base(name)
    with loading(name):
        return AutoModelForCausalLM.from_pretrained(name, dtype=torch.float32, use_safetensors=True)


def sha256(*paths: Path) -> str:
    """Of the files' bytes, one after another."""
    found = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while part := file.read(1 << 20):
                found.update(part)
    return found.hexdigest()


def describe_base(name: str) -> dict[str, str | None]:
    """How `training.json` names the base: no path of this machine, its weights' hash where local."""
    weights = sorted(Path(name).glob("*.safetensors"))
    return {"name": Path(name).name if Path(name).exists() else name,
            "sha256": sha256(*weights) if weights else None}
