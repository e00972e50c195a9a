"""adapter_model.safetensors, judged before PEFT sees it: its header first, then each matrix, one at a time.

PEFT would load any key a file brings, the base's own included (a crafted file overwrites the base), and only warns
of keys that match nothing. Memory stays within one matrix of the largest allowed shape.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lens.adapter.config import LoraSettings, Patterns, of_another_family, shown
from lens.adapter.fit import Fit
from lens.errors import BadAdapter
from lens.strict_json import parse_object

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS = "adapter_model.safetensors"
LEADS = ("base_model.model.", "base_model.model.model.")  # PEFT's own, and DataParallel's around it
WRAPPERS = ("_orig_mod", "module")  # what torch.compile and DataParallel put into the names of a model they wrap
LARGEST_HEADER = 1 << 20  # bytes; 80 layers with all seven modules need a fifth
WIDEST = 65_536  # features of a layer; BLOOM's largest has 57,344
LARGEST_WEIGHT = 65_504  # float16's largest number; beyond it an adapter cannot run on most GPUs
DTYPES = ("F32", "F16", "BF16")
LFS = b"version https://git-lfs"


@dataclass(frozen=True)
class Site:
    """A linear layer with a LoRA: its rank, and the file's keys of A (rank, in) and B (out, rank).

    `alphas`: those that the config's patterns give it; the first counts, as for PEFT. `layer`, `short`: its block's
    number and its short name.
    """

    rank: int
    alphas: tuple[float, ...]
    in_features: int
    out_features: int
    keys: tuple[str, str]
    layer: int
    short: str

    @property
    def alpha(self) -> float:
        return self.alphas[0]


def check_weights(path: Path, settings: LoraSettings, fit: Fit = Fit()) -> dict[str, Site]:
    """Judge the weights of an adapter directory; returns module name → what is there. Raises BadAdapter."""
    from safetensors import SafetensorError, safe_open

    weights = path / WEIGHTS
    try:
        sites = read_sites(path, read_header(weights), settings, fit)
        with safe_open(weights, "pt") as file:
            for key in file.keys():  # noqa: SIM118 (not a dict)
                check_values(path, key, file.get_tensor(key))
    except (SafetensorError, RecursionError, OSError, ValueError) as err:
        if isinstance(err, BadAdapter):
            raise
        raise BadAdapter("adapter-weights-unreadable", path=path, reason=str(err)[:160]) from err
    return sites


def load_weights(path: Path, sites: Mapping[str, Site]) -> dict[str, tuple[Tensor, Tensor]]:
    """Module name → A and B, of a directory that was judged."""
    from safetensors import safe_open

    with safe_open(path / WEIGHTS, "pt") as file:
        return {module: (file.get_tensor(site.keys[0]), file.get_tensor(site.keys[1]))
                for module, site in sites.items()}


def read_header(weights: Path) -> dict[str, Any]:
    """Key → {dtype, shape, data_offsets}; 8 bytes of length, then JSON. Raises ValueError for what is no header."""
    with weights.open("rb") as file:
        start = file.read(8)
        length = int.from_bytes(start, "little")
        if LFS.startswith(start) and len(start) == 8:
            raise BadAdapter("adapter-lfs-pointer", path=weights.parent, file=weights.name)
        if len(start) < 8 or length > LARGEST_HEADER:
            raise ValueError(f"its header says {length:,} bytes, at most {LARGEST_HEADER:,} are allowed"
                             if len(start) == 8 else "it is too short to be one")
        header = parse_object(file.read(length))
    header.pop("__metadata__", None)
    return header


def read_sites(path: Path, header: dict[str, Any], settings: LoraSettings, fit: Fit) -> dict[str, Site]:
    """The layers that a file changes, each with A and B of the rank that the config gives it. Raises BadAdapter."""
    halves: dict[str, dict[str, str]] = {}
    for key in header:
        module, side = name_of(path, key, settings, fit)
        if side in halves.setdefault(module, {}):
            raise BadAdapter("adapter-key-twice", path=path, one=shown(halves[module][side]), two=shown(key))
        halves[module][side] = key
    if not halves:
        raise BadAdapter("adapter-no-keys", path=path)
    patterns = Patterns(path)
    return {module: read_site(path, module, keys, header, settings, patterns, fit) for module, keys in halves.items()}


def name_of(path: Path, key: str, settings: LoraSettings, fit: Fit) -> tuple[str, str]:
    """The module that a key belongs to and its side, "A" or "B". Raises BadAdapter for any other key."""
    plain = ".".join(part for part in key.split(".") if part not in WRAPPERS)
    whole, _, end = plain.rpartition(".lora_")
    named = [whole.removeprefix(lead) for lead in LEADS if whole.startswith(lead)]
    if end in ("A.weight", "B.weight", "A.default.weight", "B.default.weight"):  # the latter as DeepSpeed gathers them
        for module in named:
            if fit.place(module):
                return module, end[0]
        if fit.base and named and Fit(any_decoder=True).place(named[0]):
            raise of_another_family(path, settings.made_for, shown(named[0]), fit)
    raise BadAdapter("adapter-odd-key", path=path, key=repr(key[:120]))


def read_site(path: Path, module: str, keys: dict[str, str], header: dict[str, Any], settings: LoraSettings,
              patterns: Patterns, fit: Fit) -> Site:
    """One layer's A and B against the config. Raises BadAdapter."""
    if missing := {"A", "B"} - set(keys):
        raise BadAdapter("adapter-half", path=path, module=module, side=missing.pop())
    if not settings.targets(module, patterns):
        raise BadAdapter("adapter-not-targeted", path=path, key=repr(keys["A"][:120]),
                         targets=shown(settings.target_modules))
    rank = settings.rank_of(module, patterns)
    (ranks, wide), (tall, ranks_b) = (matrix(path, keys[side], header[keys[side]]) for side in "AB")
    for key, found, features in ((keys["A"], ranks, wide), (keys["B"], ranks_b, tall)):
        if found != rank or not 0 < features <= WIDEST:
            raise BadAdapter("adapter-bad-shape", path=path, key=key[:120], shape=str(header[key].get("shape"))[:60],
                             rank=rank, widest=WIDEST)
    layer, short = fit.place(module) or (0, module)
    return Site(rank, tuple(settings.alphas_of(module, patterns)), wide, tall, (keys["A"], keys["B"]), layer, short)


def matrix(path: Path, key: str, entry: object) -> tuple[int, int]:
    """The shape of one line of the header; (0, 0) for what is no matrix. Raises BadAdapter for another dtype."""
    dtype, shape = (entry.get("dtype"), entry.get("shape")) if isinstance(entry, dict) else (None, None)
    if dtype not in DTYPES:
        raise BadAdapter("adapter-bad-dtype", path=path, key=key[:120], dtype=str(dtype)[:20],
                         allowed=", ".join(DTYPES))
    if isinstance(shape, list) and len(shape) == 2 and all(type(n) is int for n in shape):
        return shape[0], shape[1]
    return 0, 0


def check_values(path: Path, key: str, values: Tensor) -> None:
    """(…) tensor: finite, and small enough for half precision."""
    largest = values.abs().max().item()
    if not largest < float("inf"):
        raise BadAdapter("adapter-not-finite", path=path)
    if largest > LARGEST_WEIGHT:
        raise BadAdapter("adapter-overflows", path=path, key=key[:120], value=f"{largest:.3g}",
                         largest=LARGEST_WEIGHT)
