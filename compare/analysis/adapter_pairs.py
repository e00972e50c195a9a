"""How adapters are related, by their weights alone: no base is loaded and nothing is asked.

Whole adapters are taken as one long vector of all their ΔW; a layer that only one of two changes is zero in the
other.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import torch

from compare.analysis.low_rank import Relation, Update
from lens.adapter.directory import AdapterFiles
from lens.adapter.weights import load_weights
from lens.errors import BadAdapter, Note

EQUAL, ALIKE, PARTLY = 0.999, 0.9, 0.1  # cosines from which two updates are called so; by chance they are near 0
SAME_SIZE = 0.01  # by which two sizes may differ and be called the same
SHARED = 0.25  # overlap from which a subspace is called shared


@dataclass(frozen=True)
class Module:
    """One changed layer of one adapter; `rank`: as configured, `norm`: ‖ΔW‖_F at strength 1."""

    name: str
    rank: int
    norm: float
    effective_rank: float


@dataclass(frozen=True)
class Measured:
    """One adapter's layers, in the model's order."""

    files: AdapterFiles
    modules: tuple[Module, ...]

    @property
    def norm(self) -> float:
        return math.hypot(*(module.norm for module in self.modules))

    @property
    def effective_rank(self) -> float:
        """The mean over its layers."""
        return sum(module.effective_rank for module in self.modules) / len(self.modules)

    def as_dict(self) -> dict:
        return {"name": self.files.name, "path": str(self.files.path), "sha256": self.files.sha256, "norm": self.norm,
                "effective_rank": self.effective_rank, "modules": [vars(module) for module in self.modules]}


@dataclass(frozen=True)
class Figures:
    """Of two adapters, on one layer or on all that both change: see low_rank.Relation. None where one is zero."""

    cosine: float | None
    overlap_inputs: float | None
    overlap_outputs: float | None
    chance_inputs: float | None
    chance_outputs: float | None


@dataclass(frozen=True)
class Pair:
    """`norm_ratio`: the other's size by the one's; None where that is zero. `modules`: of each layer both change."""

    one: str
    other: str
    norm_ratio: float | None
    whole: Figures
    modules: dict[str, Figures]

    @property
    def verdict(self) -> Note:
        """Do the two do the same? In a sentence."""
        whole, ratio = self.whole, self.norm_ratio
        cosine = whole.cosine
        if cosine is None:
            return Note("adapters-changes-nothing", one=self.one, other=self.other)
        if whole.overlap_inputs is None or whole.overlap_outputs is None:
            return Note("adapters-apart", one=self.one, other=self.other)
        if cosine >= EQUAL:
            code = "adapters-same" if ratio and abs(ratio - 1) <= SAME_SIZE else "adapters-scaled"
        elif cosine >= ALIKE:
            code = "adapters-alike"
        elif abs(cosine) >= PARTLY:
            code = "adapters-partly" if cosine > 0 else "adapters-opposed"
        elif max(whole.overlap_inputs, whole.overlap_outputs) >= SHARED:
            code = "adapters-shared-space"
        else:
            code = "adapters-unrelated"
        return Note(code, one=self.one, other=self.other, ratio=ratio, **vars(whole))

    def as_dict(self) -> dict:
        return {"one": self.one, "other": self.other, "norm_ratio": self.norm_ratio, **vars(self.whole),
                "verdict": self.verdict.code, "sentence": self.verdict.in_both,
                "modules": [{"name": name, **vars(figures)} for name, figures in self.modules.items()]}


class AdapterPairs:
    """All adapters measured, one layer of all of them in memory at a time. Raises BadAdapter."""

    def __init__(self, adapters: Sequence[AdapterFiles]):
        self.notes = check_alike(adapters)
        names = sorted({name for files in adapters for name in files.sites}, key=in_order)
        found: list[list[Module]] = [[] for _ in adapters]
        self.norms = torch.full((len(adapters), len(names)), torch.nan, dtype=torch.float64)
        size = len(adapters)
        self.relations = {field.name: torch.full((size, size, len(names)), torch.nan, dtype=torch.float64)
                          for field in fields(Relation)}
        for at, name in enumerate(names):
            having = [i for i, files in enumerate(adapters) if name in files.sites]
            updates = [update_of(adapters[i], name) for i in having]
            for i, update in zip(having, updates, strict=True):
                found[i].append(Module(name, adapters[i].sites[name].rank, update.norm, update.effective_rank))
                self.norms[i, at] = update.norm
            rows = torch.tensor(having)
            for key, figures in vars(Relation.of(updates)).items():
                self.relations[key][rows[:, None], rows, at] = figures
        self.names = names
        self.adapters = [Measured(files, tuple(own)) for files, own in zip(adapters, found, strict=True)]

    def pairs(self) -> Iterator[Pair]:
        """Each adapter with each that comes after it."""
        norm = self.norms.nan_to_num().square().sum(1).sqrt()
        cosines = self.relations["inner"] / (self.norms[:, None] * self.norms)
        whole = self.relations["inner"].nan_to_num().sum(2) / (norm[:, None] * norm)
        overlaps = [figures for key, figures in self.relations.items() if key != "inner"]
        means = [figures.nanmean(2) for figures in overlaps]
        for i, j in itertools.combinations(range(len(self.adapters)), 2):
            columns = [figures[i, j].tolist() for figures in (cosines, *overlaps)]
            both = self.relations["inner"][i, j].isfinite().tolist()
            modules = {name: Figures(*map(known, own)) for name, shared, *own
                       in zip(self.names, both, *columns, strict=True) if shared}
            yield Pair(self.adapters[i].files.name, self.adapters[j].files.name, known(float(norm[j] / norm[i])),
                       Figures(*(known(float(figures[i, j])) for figures in (whole, *means))), modules)

    def as_dict(self) -> dict:
        """For JSON, and for a page, which has no torch."""
        return {"adapters": [adapter.as_dict() for adapter in self.adapters],
                "pairs": [pair.as_dict() for pair in self.pairs()], "notes": [note.as_dict() for note in self.notes]}


def known(value: float) -> float | None:
    """None for what is not defined."""
    return value if math.isfinite(value) else None


def update_of(files: AdapterFiles, module: str) -> Update:
    a, b = load_weights(files.path, {module: files.sites[module]})[module]
    return Update.of(a, b, files.scaling_of(module))


def in_order(name: str) -> list[tuple[int, str]]:
    """Sorts names of modules by their numbers, layer 2 before layer 10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in name.split(".")]


def check_alike(adapters: Sequence[AdapterFiles]) -> list[Note]:
    """Raises BadAdapter where a layer has two shapes; notes adapters that were trained on different bases."""
    first: dict[str, AdapterFiles] = {}
    for files in adapters:
        for name, site in files.sites.items():
            known_as = first.setdefault(name, files)
            shape, other = ((s.out_features, s.in_features) for s in (site, known_as.sites[name]))
            if shape != other:
                raise BadAdapter("adapters-of-other-shapes", path=files.path, module=name, shape=shape,
                                 other=known_as.path, other_shape=other)
    for one, two in itertools.pairwise(adapters):
        if differ(one, two):
            return [Note("adapters-of-other-bases", one=one.name, other=two.name)]
    return []


def differ(one: AdapterFiles, two: AdapterFiles) -> bool:
    """Do both say which base they were trained on, and not the same? By its content where both give it."""
    told = next((key for key in ("content", "sha256") if one.base.get(key) and two.base.get(key)), None)
    return told is not None and one.base[told] != two.base[told]
