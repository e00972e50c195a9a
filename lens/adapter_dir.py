"""Read and check an adapter directory. Only LoRA, only safetensors.

Config, weights and what else it brings are judged before PEFT sees any of it (adapter_config, adapter_weights,
foreign); PEFT then gets checked values alone.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lens.adapter_config import LINEAR_LAYERS, LoraSettings, read_config
from lens.adapter_prompts import brought, check_prompts
from lens.adapter_weights import check_weights
from lens.base_files import find_base
from lens.base_identity import same_base
from lens.errors import BadAdapter
from lens.strict_json import read_object

__all__ = ["LINEAR_LAYERS", "AdapterFiles", "check_base", "find_adapter", "read_adapter", "read_adapters"]
TAKEN = ("__base__", "base_layer")  # names that mean something else to PEFT
LARGEST_RECORD = 16 << 20  # bytes of training.json


@dataclass(frozen=True)
class AdapterFiles:
    """A checked adapter directory: its name, where it is, its settings, the sha256 of its weights and of its base's.

    `base_sha256` and `base_content` (lens.base_identity) are None where the directory does not say on which weights it
    was trained.
    """

    name: str
    path: Path
    settings: LoraSettings
    sha256: str
    base_sha256: str | None = None
    base_content: str | None = None

    @property
    def r(self) -> int:
        return self.settings.r


def read_adapter(path: Path) -> AdapterFiles:
    """Check a directory without loading it. Raises BadAdapter with what was found and what to do."""
    if not path.is_dir():
        raise BadAdapter(f"adapter {path}: no such directory; give one that `python -m train` wrote")
    weights = path / "adapter_model.safetensors"
    for file in (path / "adapter_config.json", weights):
        if not file.is_file():
            raise BadAdapter(f"adapter {path}: {file.name} is missing; give a directory that `python -m train` wrote")
    for name in ("adapter_config.json", weights.name, "training.json", *brought(path)):
        if leads_out(path / name):
            raise BadAdapter(f"adapter {path}: {name} is a link that leads out of it; put the file itself there")
    settings = read_config(path)
    check_weights(path, settings.r)
    base = trained_on(path)
    return AdapterFiles(name_of(path), path, settings, sha256(weights), base.get("sha256"), base.get("content"))


def leads_out(file: Path) -> bool:
    """Is it a link to a place outside its directory? The hub's cache links a snapshot's files to its `blobs`."""
    if not file.is_symlink():
        return False
    home, target = file.parent.resolve(), file.resolve()
    return not target.is_relative_to(home) and target.parent != home.parent.parent / "blobs"


def name_of(path: Path) -> str:
    """The directory's name as PEFT can carry it: no dots, nothing that a torch module is already called."""
    from torch.nn import ModuleDict

    own = path.resolve()
    name = re.sub(r"[^\w-]", "_", f"{own.parent.name}-{own.name}" if own.name.startswith("checkpoint-") else own.name)
    return f"{name}_" if hasattr(ModuleDict, name) or name in TAKEN else name


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def trained_on(path: Path) -> dict:
    """The base, as `training.json` records it; empty where it does not."""
    try:
        base = read_object(path / "training.json", LARGEST_RECORD)["base"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}
    return base if isinstance(base, dict) else {}


def check_base(base: str, adapters: Iterable[AdapterFiles]) -> None:
    """Raises BadAdapter for an adapter of other weights than this directory's, or with prompts of its own."""
    adapters = list(adapters)
    check_prompts(base, [files.path for files in adapters])
    for files in adapters:
        recorded = {"sha256": files.base_sha256, "content": files.base_content}
        if any(recorded.values()) and same_base(recorded, find_base(base)) is False:
            raise BadAdapter(f"adapter {files.path} was trained on another base (weights sha256 "
                             f"{str(files.base_sha256)[:12]}, not those of {base}); give its own by --base")


def find_adapter(name: str) -> Path:
    """The directory of that name, or a hub repository's files fetched to the hub's cache. Raises BadAdapter."""
    path = Path(name)
    try:
        there = path.exists()
    except (OSError, ValueError) as err:  # a name no file system takes
        raise BadAdapter(f"adapter {name[:80]!r}: no directory can be called that; give one that `python -m train` "
                         "wrote") from err
    if there or not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
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
