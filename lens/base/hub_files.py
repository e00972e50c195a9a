"""A base's files out of a hub repository, in the hub's cache; how much that is, is told and weighed before it comes."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

from lens.errors import BadBase, first_line, said
from lens.gpu_memory import in_gb

SAFETENSORS = ("model*.safetensors", "model.safetensors.index.json")
PICKLED = ("pytorch_model*.bin", "pytorch_model.bin.index.json")
PATIENCE = 10  # seconds that the hub has to say how large its files are


def fetch(name: str, patterns: Sequence[str]) -> Path:
    """The files of these names. Raises BadBase."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=list(patterns))).resolve()
    except Exception as err:  # noqa: BLE001 (the hub's errors have no common ancestor)
        raise BadBase("base-not-on-hub", name=name, reason=first_line(err)) from err


def fetch_weights(name: str) -> None:
    """Those in safetensors; pickled ones only where there are none. Warns of their size, raises BadBase where the disk
    has no room for it."""
    for patterns in (SAFETENSORS, PICKLED):
        make_sure_of_room(name, size_of_missing(name, patterns))
        if any(fetch(name, patterns).glob(SAFETENSORS[0] + "*")):
            return


def size_of_missing(name: str, patterns: Sequence[str]) -> int:
    """Bytes of the files that the cache has not yet; 0 where the hub does not say, which the fetching itself finds."""
    from huggingface_hub import HfApi, constants
    from huggingface_hub.file_download import repo_folder_name

    try:
        files = HfApi().model_info(name, files_metadata=True, timeout=PATIENCE).siblings or []
    except Exception:  # noqa: BLE001 (as above)
        return 0
    blobs = Path(constants.HF_HUB_CACHE, repo_folder_name(repo_id=name, repo_type="model"), "blobs")
    wanted = [file for file in files if any(fnmatch(file.rfilename, pattern) for pattern in patterns)]
    return sum(file.size or 0 for file in wanted
               if not (blobs / str(file.lfs.sha256 if file.lfs else file.blob_id)).exists())


def make_sure_of_room(name: str, size: int) -> None:
    from huggingface_hub import constants

    if not size:
        return
    cache = Path(constants.HF_HUB_CACHE).expanduser()
    free = shutil.disk_usage(next(place for place in (cache, *cache.parents) if place.exists())).free
    if size > free:
        raise BadBase("base-larger-than-disk", name=name, size=in_gb(size, 2), free=in_gb(free, 2), cache=cache)
    warnings.warn(said("base-is-fetched", "en", {"name": name, "size": in_gb(size, 2), "cache": cache}), stacklevel=4)
