"""Which base is it? By the contents of its weights, whatever the files: one, six shards or a `.bin`.

The identity is the sha256 over a line for each tensor, sorted by name: name, dtype, shape and a digest of its bytes.
Names are the hub's (without `transformer.`). A `lm_head.weight` that only says again what the embedding says is left
out: where the two are tied, files may hold the one or both.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from lens.base.files import BaseFiles
from lens.data_home import cache_home

CHUNK = 1 << 24  # bytes that one thread hashes at a time; part of what the identity is
MOST_REMEMBERED = 256
SETTLED = 2.0  # seconds: a file changed more recently may change again without its time showing it
DTYPES = {"torch.float64": "F64", "torch.float32": "F32", "torch.float16": "F16", "torch.bfloat16": "BF16"}
Contents = dict[str, tuple[str, tuple[int, ...], memoryview]]  # name → dtype, shape, bytes


def base_identity(files: BaseFiles) -> str:
    """64 hexadecimal digits, the same for the same weights. Raises BadBase where they cannot be read.

    A gigabyte takes about a second of one core; the answer is remembered until a file changes.
    """
    return remembered("content", files.weights, lambda: identity(files))


def same_base(recorded: Mapping[str, object], files: BaseFiles) -> bool | None:
    """Is this the base that `training.json`'s "base" names? None where that cannot be told.

    By `content` where it is there; else by the older `sha256`: of the one file, or of all safetensors in order.
    """
    if isinstance(content := recorded.get("content"), str):
        return content == base_identity(files)
    if not isinstance(old := recorded.get("sha256"), str) or files.pickled:
        return None
    ways = {files.weights, tuple(sorted(files.path.glob("*.safetensors")))}
    return any(old == file_sha256(way) for way in ways)


def describe_base(files: BaseFiles) -> dict[str, str | None]:
    """How `training.json` names the base: no path of this machine. `sha256` is for readers of the first edition."""
    return {"name": files.name, "sha256": None if files.pickled else file_sha256(files.weights),
            "content": base_identity(files)}


def file_sha256(paths: Sequence[Path]) -> str:
    """Of the files' bytes, one after another."""
    return remembered("sha256", paths, lambda: sha256_of(paths))


def sha256_of(paths: Iterable[Path]) -> str:
    """The same, read anew."""
    found = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            hashlib.file_digest(file, lambda: found)
    return found.hexdigest()


def identity(files: BaseFiles) -> str:
    """`base_identity`, computed."""
    with contents(files) as tensors:
        digests = digest_all({name: data for name, (_, _, data) in tensors.items()})
        lines = {name: [dtype, list(shape), digests[name]] for name, (dtype, shape, _) in tensors.items()}
    if head := lines.pop("lm_head.weight", None):
        if head not in lines.values():
            lines["lm_head.weight"] = head
    text = "".join(json.dumps([name, *lines[name]]) + "\n" for name in sorted(lines))
    return hashlib.sha256(text.encode()).hexdigest()


def digest_all(tensors: Mapping[str, memoryview]) -> dict[str, str]:
    """Name → digest of its bytes, on all cores. BLAKE2 is half again as fast as SHA-256 where no processor helps."""
    with ThreadPoolExecutor(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None) as pool:
        parts = {name: [pool.submit(digest, data[at:at + CHUNK]) for at in range(0, len(data), CHUNK)]
                 for name, data in tensors.items()}
        return {name: hashlib.sha256(b"".join(part.result() for part in found)).hexdigest()
                for name, found in parts.items()}


def digest(data: memoryview) -> bytes:
    with data:
        return hashlib.blake2b(data, digest_size=32).digest()


@contextmanager
def contents(files: BaseFiles) -> Iterator[Contents]:
    """The tensors' bytes, mapped from their files rather than read."""
    if files.pickled:
        yield pickled_contents(files)
        return
    with ExitStack() as stack:
        mapped: dict[Path, memoryview] = {}
        for path in files.weights:
            with path.open("rb") as opened:
                view = stack.enter_context(mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ))
            mapped[path] = stack.enter_context(memoryview(view))
        parts = {name: stack.enter_context(mapped[tensor.file][tensor.start:tensor.end])
                 for name, tensor in files.tensors.items()}
        yield {name: (tensor.dtype, tensor.shape, parts[name]) for name, tensor in files.tensors.items()}


def pickled_contents(files: BaseFiles) -> Contents:
    import torch

    from lens.base.loading import unpickle

    def held(tensor: Any) -> memoryview:
        return memoryview(tensor.contiguous().flatten().view(torch.uint8).numpy())

    return {name: (DTYPES.get(str(tensor.dtype), str(tensor.dtype)), tuple(tensor.shape), held(tensor))
            for name, tensor in unpickle(files).items()}


def remembered(what: str, paths: Sequence[Path], compute: Callable[[], str]) -> str:
    """What `compute` says of these files, from the user's cache while none of them has changed in any way."""
    before = state_of(paths)
    key = hashlib.sha256(json.dumps([what, before]).encode()).hexdigest()
    store = cache_home(os.environ) / "base_identity.json"
    if known := read_store(store).get(key):
        return known
    found = compute()
    newest = max((changed for *_, changed in before), default=0) / 1e9
    if state_of(paths) == before and time.time() - newest > SETTLED:
        write_store(store, {**read_store(store), key: found})
    return found


def state_of(paths: Iterable[Path]) -> list[tuple[str, int, int, int, int]]:
    """Path, size, inode and times of each file. The time of its inode shows what setting the other time would hide."""
    found = ((path.resolve(), path.stat()) for path in paths)
    return [(str(path), s.st_size, s.st_ino, s.st_mtime_ns, s.st_ctime_ns) for path, s in found]


def read_store(store: Path) -> dict[str, str]:
    """Key → digest; whatever else stands in the file is passed over."""
    try:
        found = json.loads(store.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return {key: value for key, value in found.items() if isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value)
            } if isinstance(found, dict) else {}


def write_store(store: Path, entries: Mapping[str, str]) -> None:
    """The newest entries, replaced whole; nothing where the cache cannot be written."""
    part = store.with_name(f"{store.name}.{os.getpid()}")
    try:
        store.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(dict(list(entries.items())[-MOST_REMEMBERED:])), encoding="utf-8")
        part.replace(store)
    except OSError:
        with suppress(OSError):
            part.unlink()
