"""The one judge of adapter directories, for comparing, merging, resuming, evaluating and the page.

Only LoRA, only safetensors. Config, weights and what else a directory brings are judged before PEFT sees any of it
(adapter_config, adapter_weights, adapter_prompts); PEFT is then given checked values alone (adapter_peft).
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lens.adapter.config import LoraSettings, read_config, shown
from lens.adapter.find import CONFIG, candidates, find_adapter, step_of
from lens.adapter.fit import LINEAR_LAYERS, Fit
from lens.adapter.prompts import brought, check_prompts, check_recorded
from lens.adapter.weights import WEIGHTS, Site, check_weights
from lens.base.files import BaseFiles, find_base
from lens.base.identity import same_base, sha256_of
from lens.errors import BadAdapter, Note
from lens.strict_json import read_object

LONGEST_ENDING = 80  # characters
LARGEST_RECORD = 16 << 20  # bytes of training.json


@dataclass(frozen=True)
class AdapterFiles:
    """A checked adapter directory.

    `name`: what users call it; `sites`: module name → the LoRA there; `sha256`: of its weights; `base`: what
    `training.json` says of the base it was trained on, {} where there is none; `notes`: what its user is to be told;
    `names`: of the linear layers that it could change, in the order of a block; `ending`: what it taught answers to end
    with, `template_sha256`: of the chat template it was trained by, each "" where the directory does not say.
    """

    name: str
    path: Path
    settings: LoraSettings
    sites: Mapping[str, Site]
    sha256: str
    base: Mapping[str, object]
    notes: tuple[Note, ...] = ()
    names: tuple[str, ...] = LINEAR_LAYERS
    ending: str = ""
    template_sha256: str = ""

    @property
    def r(self) -> int:
        """The largest rank."""
        return max(site.rank for site in self.sites.values())

    @property
    def parameters(self) -> int:
        """Values of all its A and B."""
        return sum(site.rank * (site.in_features + site.out_features) for site in self.sites.values())

    @property
    def modules(self) -> tuple[str, ...]:
        """Short names of the linear layers that it changes."""
        found = [site.short for site in self.sites.values()]
        return tuple(name for name in dict.fromkeys((*self.names, *found)) if name in found)

    @property
    def layers(self) -> tuple[int, ...]:
        """Numbers of the layers that it changes."""
        return tuple(sorted({site.layer for site in self.sites.values()}))

    def scaling_of(self, module: str) -> float:
        """What B·A is multiplied by; rsLoRA: Kalajdzievski, 2023."""
        site = self.sites[module]
        return site.alpha / (math.sqrt(site.rank) if self.settings.use_rslora else site.rank)

    @property
    def key(self) -> str:
        return peft_key(self.name)

    @property
    def base_sha256(self) -> str | None:
        """Of the weights it was trained on; None where the directory does not say."""
        found = self.base.get("sha256")
        return found if isinstance(found, str) else None


def peft_key(name: str) -> str:
    """What PEFT calls the adapter of that name: no dots, and nothing that a torch module is called already.

    PEFT puts it into module names, so a folder called `model` or `1` must not reach it.
    """
    return f"lora_{hashlib.sha256(name.encode()).hexdigest()[:16]}"


def read_adapter(name: str | Path, base: str | BaseFiles | Fit | None = None) -> AdapterFiles:
    """Find and check an adapter without loading it. Raises BadAdapter with what was found and what to do.

    `base`: whose linear layers it may change; where none is named it is a BLOOM's.
    """
    fit = fit_of(base)
    given = find_adapter(name)
    passed_over: list[Note] = []
    first: BadAdapter | None = None
    for path, notes in candidates(given):
        try:
            return judge(path, name_of(path, given), [*passed_over, *notes], fit)
        except BadAdapter as err:
            first = first or err
            passed_over.append(Note("adapter-passed-over", path=path, reason=err))
    raise first or BadAdapter("adapter-not-there", path=given)


def fit_of(base: str | BaseFiles | Fit | None) -> Fit:
    """What adapters of a base are judged against. Raises BadBase."""
    if isinstance(base, Fit):
        return base
    return Fit.of(find_base(base, weights=False) if isinstance(base, str) else base)


def judge(path: Path, name: str, notes: Iterable[Note] = (), fit: Fit = Fit()) -> AdapterFiles:
    """Check the directory itself. Raises BadAdapter."""
    for file in (CONFIG, WEIGHTS, "training.json", *brought(path)):
        if leads_out(path / file):
            raise BadAdapter("adapter-leads-out", path=path, file=file)
    settings = read_config(path, fit)
    sites = check_weights(path, settings, fit)
    found, record = sha256_of([path / WEIGHTS]), recorded(path)
    notes = (*notes, *overlaps(path, sites), *changed(path, found, record))
    base, chat = record.get("base"), record.get("chat")
    ending, template = (text(chat, key) for key in ("ending", "template_sha256"))
    return AdapterFiles(name, path, settings, sites, found, base if isinstance(base, dict) else {}, notes,
                        fit.names, ending[:LONGEST_ENDING], template)


def text(record: object, key: str) -> str:
    """A text of a record; "" where there is none."""
    found = record.get(key) if isinstance(record, dict) else None
    return found if isinstance(found, str) else ""


def changed(path: Path, found: str, record: Mapping[str, Any]) -> list[Note]:
    """Are its weights others than `training.json` says?"""
    then = record.get("weights_sha256")
    return [Note("adapter-weights-changed", path=path, found=found[:12], recorded=then[:12])] if isinstance(
        then, str) and then != found else []


def overlaps(path: Path, sites: Mapping[str, Site]) -> list[Note]:
    """PEFT writes patterns in alphabetical order: where two fit a layer, the first need not be the one it trained."""
    found = next(((name, site.alphas) for name, site in sites.items() if len(set(site.alphas)) > 1), None)
    return [Note("adapter-alphas-overlap", path=path, module=found[0], first=found[1][0],
                 other=next(a for a in found[1] if a != found[1][0]))] if found else []


def leads_out(file: Path) -> bool:
    """Is it a link to a place outside its directory? The hub's cache links a snapshot's files to its `blobs`."""
    if not file.is_symlink():
        return False
    home, target = file.parent.resolve(), file.resolve()
    return not target.is_relative_to(home) and target.parent != home.parent.parent / "blobs"


def name_of(path: Path, given: Path) -> str:
    """What users call the adapter at `path`: its folder's name, its run's with it, or its hub repository's."""
    own = path.resolve() if step_of(path.resolve()) >= 0 else given.resolve()
    name = f"{own.parent.name}-{own.name}" if step_of(own) >= 0 else own.name
    if own.parent.name == "snapshots" and own.parent.parent.name.startswith("models--"):
        name = own.parent.parent.name.removeprefix("models--").replace("--", "/")
    name = "".join(c if c.isprintable() else "\ufffd" for c in name.encode("utf-8", "replace").decode())
    return name if name.strip() else "adapter"


def recorded(path: Path) -> dict[str, Any]:
    """What `training.json` holds; {} where there is none that can be read."""
    try:
        return read_object(path / "training.json", LARGEST_RECORD)
    except (OSError, ValueError, RecursionError):
        return {}


def check_base(base: str, adapters: Iterable[AdapterFiles], template: str = "") -> list[Note]:
    """Raises BadAdapter for an adapter of other weights than this base's, or with prompts of its own. `template`: a
    file that is used in place of the base's own."""
    adapters = list(adapters)
    notes = [*check_prompts(base, adapters, template), *check_recorded(base, adapters, template)]
    for files in adapters:
        if files.base and same_base(files.base, find_base(base)) is False:
            raise BadAdapter("adapter-of-another-base", path=files.path, trained=str(files.base_sha256)[:12], base=base,
                             made_for=shown(files.base.get("name")))
    return notes


def check_ending(files: AdapterFiles, tokenizer: Any, ends: Container[int]) -> list[Note]:
    """Is what an adapter taught answers to end with one of the base's ends?"""
    taught = tokenizer.encode(files.ending, add_special_tokens=False) if files.ending else []
    return [Note("adapter-other-ending", path=files.path, ending=repr(files.ending))] if taught and not any(
        number in ends for number in taught) else []


def read_adapters(names: Sequence[str | Path], base: str | BaseFiles | Fit | None = None) -> list[AdapterFiles]:
    """Check several, in the order given; one given again is the same object again. Raises BadAdapter. `base`: see
    `read_adapter`.

    Names are made unique, which a note tells: a second `lens` is `runs/lens` where it lies in `runs`.
    """
    fit = fit_of(base)
    found: list[AdapterFiles] = []
    for name in names:
        files = read_adapter(name, fit)
        if known := same(files, found):
            found.append(known)
            continue
        found.append(renamed(files, {other.name for other in found}))
    return found


def same(files: AdapterFiles, others: Iterable[AdapterFiles]) -> AdapterFiles | None:
    """That one of the others which is the very same directory."""
    return next((other for other in others if other.path.resolve() == files.path.resolve()), None)


def renamed(files: AdapterFiles, taken: set[str]) -> AdapterFiles:
    """The same under a name that is not taken, with a note if it is another."""
    if files.name not in taken:
        return files
    parent = files.path.resolve().parent.name
    wanted = f"{parent}/{files.name}"
    name = wanted if wanted not in taken else unique([*taken, wanted])[-1]
    note = Note("adapter-renamed", path=files.path, name=files.name, new=name)
    return dataclasses.replace(files, name=name, notes=(*files.notes, note))


def unique(names: Sequence[str]) -> list[str]:
    """The same names, a repeated one with its number: `lens`, `lens (2)`."""
    found: list[str] = []
    for name in names:
        new, count = name, 1
        while new in found:
            count += 1
            new = f"{name} ({count})"
        found.append(new)
    return found
