"""adapter_model.safetensors, judged before PEFT sees it: its header first, then each matrix, one at a time.

PEFT would load any key a file brings, the base's own included (a crafted file overwrites the base), and only warns
of keys that match nothing. Memory stays within one matrix of the largest allowed shape.
"""

from __future__ import annotations

import re
from pathlib import Path

from lens.adapter_config import LINEAR_LAYERS
from lens.errors import BadAdapter
from lens.strict_json import parse_object

KEY = re.compile(r"base_model\.model\.transformer\.h\.\d{1,3}\.(self_attention|mlp)\."
                 rf"({'|'.join(LINEAR_LAYERS)})\.lora_([AB])\.weight")
LARGEST_HEADER = 1 << 20  # bytes; BLOOM's largest, 70 layers with all four modules, needs a tenth
WIDEST = 65_536  # features of a layer; BLOOM's largest has 57,344
LARGEST_WEIGHT = 65_504  # float16's largest number; beyond it an adapter cannot run on most GPUs
DTYPES = ("F32", "F16", "BF16")


def check_weights(path: Path, rank: int) -> None:
    """Judge the adapter_model.safetensors of an adapter directory. Raises BadAdapter."""
    from safetensors import SafetensorError, safe_open

    weights = path / "adapter_model.safetensors"
    try:
        header = read_header(weights)
        for key, entry in header.items():
            check_entry(path, key, entry, rank)
        if not header:
            raise BadAdapter(f"adapter {path}: key none; lora_A and lora_B of BLOOM's linear layers are expected")
        with safe_open(weights, "pt") as file:
            for key in file.keys():  # noqa: SIM118 (not a dict)
                check_values(path, key, file.get_tensor(key))
    except (SafetensorError, RecursionError, OSError, ValueError) as err:
        if isinstance(err, BadAdapter):
            raise
        raise BadAdapter(f"adapter {path}: adapter_model.safetensors cannot be read ({str(err)[:160]})") from err


def read_header(weights: Path) -> dict:
    """Key → {dtype, shape, data_offsets}; 8 bytes of length, then JSON. Raises ValueError for what is no header."""
    with weights.open("rb") as file:
        start = file.read(8)
        length = int.from_bytes(start, "little")
        if len(start) < 8 or length > LARGEST_HEADER:
            raise ValueError(f"its header says {length:,} bytes, at most {LARGEST_HEADER:,} are allowed"
                             if len(start) == 8 else "it is too short to be one")
        header = parse_object(file.read(length))
    header.pop("__metadata__", None)
    return header


def check_entry(path: Path, key: str, entry: object, rank: int) -> None:
    """One line of the header: the name, dtype and shape of a LoRA matrix."""
    name = KEY.fullmatch(key)
    if name is None:
        raise BadAdapter(f"adapter {path}: key {key[:120]!r}; only lora_A and lora_B of BLOOM's linear layers are "
                         "allowed")
    dtype, shape = (entry.get("dtype"), entry.get("shape")) if isinstance(entry, dict) else (None, None)
    if dtype not in DTYPES:
        raise BadAdapter(f"adapter {path}: {key} is {str(dtype)[:20]}; allowed: {', '.join(DTYPES)}")
    wide = shape if isinstance(shape, list) and len(shape) == 2 and all(type(n) is int for n in shape) else [0, 0]
    ranks, features = wide if name[3] == "A" else wide[::-1]
    if ranks != rank or not 0 < features <= WIDEST:
        raise BadAdapter(f"adapter {path}: {key} has shape {str(shape)[:60]}, expected rank {rank} by 1 to "
                         f"{WIDEST:,} features")


def check_values(path: Path, key: str, values) -> None:
    """(…) tensor: finite, and small enough for half precision."""
    largest = values.abs().max().item()
    if not largest < float("inf"):
        raise BadAdapter(f"adapter {path}: its weights hold NaN or infinity; train it again at a lower learning rate")
    if largest > LARGEST_WEIGHT:
        raise BadAdapter(f"adapter {path}: {key} has a weight of {largest:.3g}; allowed: up to {LARGEST_WEIGHT:,}, the "
                         "largest number of float16; train it again at a lower learning rate")
