"""Read and check an adapter directory, and load it onto a base. Only LoRA, only safetensors.

PEFT would load any key a file brings, the base's own included (a crafted file overwrites the base),
and only warns of keys that match nothing: so the header is read and judged before PEFT sees it.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

from compare.errors import BadAdapter

LINEAR_LAYERS = ("query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h")
KEY = re.compile(r"base_model\.model\.transformer\.h\.\d+\.(self_attention|mlp)\."
                 rf"({'|'.join(LINEAR_LAYERS)})\.lora_[AB]\.weight")
LARGEST_RANK = 1024
# Values of adapter_config.json that the comparison cannot express exactly, and the ones it can.
EXACT = {"peft_type": ["LORA"], "use_dora": [False, None], "bias": ["none", None],
         "modules_to_save": [None, []], "trainable_token_indices": [None],
         "init_lora_weights": [True, False, "gaussian", None], "use_qalora": [False, None]}


@dataclass(frozen=True)
class AdapterFiles:
    """A checked adapter directory: its name, where it is, rank and the sha256 of its weights."""

    name: str
    path: Path
    r: int
    sha256: str


def read_adapter(path: Path) -> AdapterFiles:
    """Check a directory without loading it. Raises BadAdapter with what was found and what to do."""
    from safetensors import SafetensorError, safe_open

    if not path.is_dir():
        raise BadAdapter(f"adapter {path}: no such directory; give one that `python -m train` wrote")
    weights, config_file = path / "adapter_model.safetensors", path / "adapter_config.json"
    for file in (config_file, weights):
        if not file.is_file():
            raise BadAdapter(f"adapter {path}: {file.name} is missing; give a directory that `python -m train` wrote")
    try:
        config = json.loads(config_file.read_text(encoding="utf-8"))
        rank = config["r"]
    except (ValueError, KeyError, TypeError, RecursionError) as err:
        raise BadAdapter(f"adapter {path}: adapter_config.json cannot be read ({err!r})") from err
    for key, allowed in EXACT.items():
        if config.get(key) not in allowed:
            raise BadAdapter(f"adapter {path}: {key} is {config.get(key)!r}; only {allowed[0]!r} compares exactly")
    if not isinstance(rank, int) or not 1 <= rank <= LARGEST_RANK:
        raise BadAdapter(f"adapter {path}: rank {rank!r}; allowed: 1 to {LARGEST_RANK}")
    targets = config.get("target_modules")
    if not isinstance(targets, list) or not set(targets) <= set(LINEAR_LAYERS):
        raise BadAdapter(f"adapter {path}: target_modules {str(targets)[:80]}; allowed: a list of {', '.join(LINEAR_LAYERS)}")
    try:
        with safe_open(weights, "pt") as file:
            keys = list(file.keys())
            odd = [k for k in keys if not KEY.fullmatch(k)]
            finite = not odd and all(file.get_tensor(k).isfinite().all() for k in keys)
    except SafetensorError as err:
        raise BadAdapter(f"adapter {path}: adapter_model.safetensors cannot be read ({err})") from err
    if odd or not keys:
        raise BadAdapter(f"adapter {path}: key {odd[0][:100] if odd else 'none'!r}; only lora_A and lora_B of BLOOM's linear layers are allowed")
    if not finite:
        raise BadAdapter(f"adapter {path}: its weights hold NaN or infinity; train it again at a lower learning rate")
    name = re.sub(r"[^\w-]", "_", path.resolve().name)
    return AdapterFiles(name, path, rank, hashlib.sha256(weights.read_bytes()).hexdigest())


def attach(model, adapter: AdapterFiles):
    """The base with this adapter, as a PeftModel in evaluation mode.

    Raises BadAdapter when a shape or a key does not belong to this base; the base is then unchanged.
    """
    from peft import LoraConfig, PeftModel
    from peft.utils import load_peft_weights, set_peft_model_state_dict

    config = LoraConfig.from_pretrained(adapter.path)
    config.inference_mode = True
    peft_model = PeftModel(model, config, adapter_name=adapter.name)
    weights = load_peft_weights(adapter.path, device="cpu")
    try:
        result = set_peft_model_state_dict(peft_model, weights, adapter_name=adapter.name)
    except (RuntimeError, KeyError, ValueError) as err:
        peft_model.unload()
        raise BadAdapter(f"adapter {adapter.path} does not fit this base: {str(err).strip().splitlines()[-1].strip()}") from err
    missing = [k for k in result.missing_keys if f".{adapter.name}." in k]
    if missing or result.unexpected_keys:
        peft_model.unload()
        odd = (missing or result.unexpected_keys)[0]
        raise BadAdapter(f"adapter {adapter.path} does not fit this base: {odd} has no counterpart; was it trained on another size?")
    peft_model.requires_grad_(False)
    return peft_model.eval()
