"""Read and check an adapter directory, and load it onto a base. Only LoRA, only safetensors.

PEFT would load any key a file brings, the base's own included (a crafted file overwrites the base),
and only warns of keys that match nothing: so the header is read and judged before PEFT sees it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
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
         "init_lora_weights": [True, False, "gaussian", None], "use_qalora": [False, None],
         "rank_pattern": [{}, None], "alpha_pattern": [{}, None]}


@dataclass(frozen=True)
class AdapterFiles:
    """A checked adapter directory: its name, where it is, rank, the sha256 of its weights and of its base's.

    `base_sha256` is None where the directory does not say on which weights it was trained.
    """

    name: str
    path: Path
    r: int
    sha256: str
    base_sha256: str | None = None


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
    return AdapterFiles(name_of(path), path, rank, sha256(weights), trained_on(path))


def name_of(path: Path) -> str:
    """The directory's name as PEFT can carry it: no dots, nothing that a torch module is already called."""
    from torch.nn import ModuleDict

    own = path.resolve()
    name = re.sub(r"[^\w-]", "_", f"{own.parent.name}-{own.name}" if own.name.startswith("checkpoint-") else own.name)
    return f"{name}_" if hasattr(ModuleDict, name) or name == "__base__" else name


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def trained_on(path: Path) -> str | None:
    """The sha256 of the base's weights, as `training.json` records it; None where it does not."""
    try:
        return json.loads((path / "training.json").read_text(encoding="utf-8"))["base"]["sha256"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def check_base(base: str, adapters: Iterable[AdapterFiles]) -> None:
    """Raises BadAdapter for an adapter that says it was trained on other weights than this directory's."""
    weights = Path(base) / "model.safetensors"
    if not weights.is_file() or not any(files.base_sha256 for files in adapters):
        return
    found = sha256(weights)
    for files in adapters:
        if files.base_sha256 not in (None, found):
            raise BadAdapter(f"adapter {files.path} was trained on another base (weights sha256 "
                             f"{str(files.base_sha256)[:12]}, this one has {found[:12]}); give its own by --base")


def find_adapter(name: str) -> Path:
    """The directory of that name, or a hub repository's files fetched to the hub's cache. Raises BadAdapter."""
    path = Path(name)
    if path.exists() or not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        return path
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=["adapter_config.json", "adapter_model.safetensors"]))
    except Exception as err:  # noqa: BLE001 (the hub's errors have no common ancestor)
        raise BadAdapter(f"adapter {name}: no such directory, and the hub does not give it "
                         f"({str(err).splitlines()[0]}); give a directory that `python -m train` wrote") from err


def read_adapters(paths: Sequence[Path]) -> dict[str, AdapterFiles]:
    """Check several directories; by name, in the order given. Raises BadAdapter for two of one name."""
    found: dict[str, AdapterFiles] = {}
    for path in paths:
        files = read_adapter(path)
        if files.name in found:
            raise BadAdapter(f"adapter {path}: {found[files.name].path} has the same name {files.name!r}; rename one")
        found[files.name] = files
    return found


def attach(model, adapters: Sequence[AdapterFiles]):
    """The base with these adapters, as a PeftModel in evaluation mode with the first one active.

    Raises BadAdapter when a shape or a key does not belong to this base; the base is then unchanged.
    """
    from peft import LoraConfig, PeftModel

    peft_model = None
    for files in adapters:
        config = LoraConfig.from_pretrained(files.path)
        config.inference_mode = True
        if peft_model is None:
            peft_model = PeftModel(model, config, adapter_name=files.name)
        else:
            peft_model.add_adapter(files.name, config)
        try:
            load_weights(peft_model, files)
        except BadAdapter:
            peft_model.unload()
            raise
    peft_model.set_adapter(adapters[0].name, inference_mode=True)
    return peft_model.eval()


def load_weights(peft_model, files: AdapterFiles) -> None:
    """Put a directory's weights into the adapter of its name. Raises BadAdapter unless every key finds its place."""
    from peft.utils import load_peft_weights, set_peft_model_state_dict

    weights = load_peft_weights(files.path, device="cpu")
    try:
        result = set_peft_model_state_dict(peft_model, weights, adapter_name=files.name)
    except (RuntimeError, KeyError, ValueError) as err:
        said = str(err).strip().splitlines()[-1].strip()
        raise BadAdapter(f"adapter {files.path} does not fit this base: {said}") from err
    missing = [k for k in result.missing_keys if f".{files.name}." in k]
    if odd := missing or result.unexpected_keys:
        raise BadAdapter(f"adapter {files.path} does not fit this base: {odd[0]} has no counterpart; "
                         "was it trained on another size?")
