"""A comparison's columns as they are asked for: by a program, by the page's list of columns, and in the address."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args
from urllib.parse import unquote

from compare.engine.interface import BASE, RANGES, Engine, LoadedAdapter, Variant, unique_names
from compare.engine.question import read_layers, read_modules
from lens.chat import Form, valid_text
from lens.errors import BadQuestion, BadSetting

MOST_COLUMNS = 64  # of one comparison
LONGEST_NAME = 80  # characters
# In an address: between columns, between the parts of one, in place of an adapter, and what names the texts.
BETWEEN, PARTS, NO_ADAPTER = ";", "~", "*"
OF_LINK = {"l": "layers", "m": "modules", "n": "name"}


def first_adapter(engine: Engine) -> LoadedAdapter | None:
    return next(iter(engine.adapters.values()), None)


def loaded_adapter(engine: Engine, name: object) -> LoadedAdapter:
    """The adapter of that name. Raises BadSetting naming those there are."""
    if isinstance(name, str) and name in engine.adapters:
        return engine.adapters[name]
    shown = name[:80] if isinstance(name, str) else name
    if not engine.adapters:
        raise BadSetting("no-adapter-loaded", name=shown)
    raise BadSetting("adapter-not-loaded", name=shown, loaded=", ".join(engine.adapters)[:400])


def bounded(text: str | None, default: float, limits: tuple[float, float]) -> float:
    """The number in `text` held within limits; the default where there is none."""
    try:
        value = float(text if text is not None else default)
    except ValueError:
        return default
    return min(max(value, limits[0]), limits[1]) if math.isfinite(value) else default


def marked(text: object) -> str:
    """The text with the signs that an address uses as `unquote` reads them back."""
    return re.sub("[%;~*]", lambda sign: f"%{ord(sign[0]):02X}", str(text))


@dataclass(frozen=True)
class AskedColumn:
    """What a column is to show: an adapter (None: the base) at a strength, asked in a form, `layers` and `modules` as
    they are written ("": all), under a name of its own ("": what it shows)."""

    adapter: str | None = None
    strength: float = 1.0
    prompt: Form = "chat"
    layers: str = ""
    modules: str = ""
    name: str = ""

    @classmethod
    def read(cls, value: object) -> AskedColumn:
        """One entry of `columns`, as a program or the page sends it. Raises BadSetting for an unknown key and
        for what is no text, BadQuestion for a strength out of range; what `variant` looks at may still be wrong."""
        if not isinstance(value, dict):
            raise BadSetting("column-expected", value=repr(value)[:80])
        allowed = list(cls.__dataclass_fields__)
        if unknown := [name for name in value if name not in allowed]:
            raise BadSetting("column-key-unknown", name=repr(unknown[0])[:80], allowed=", ".join(allowed))
        if (prompt := value.get("prompt", "chat")) not in get_args(Form):
            raise BadSetting("column-prompt-unknown", value=repr(prompt)[:80], allowed=", ".join(get_args(Form)))
        texts = {name: value.get(name) or "" for name in OF_LINK.values()}
        if odd := [name for name, text in texts.items() if not isinstance(text, str)]:
            raise BadSetting("text-expected", name=f"{odd[0]} of a column", value=repr(texts[odd[0]])[:80])
        texts = {name: valid_text(text).strip() for name, text in texts.items()}
        if len(texts["name"]) > LONGEST_NAME:
            raise BadSetting("column-name-long", length=len(texts["name"]), most=LONGEST_NAME)
        RANGES["strength"].check("strength", strength := value.get("strength", 1.0))
        return cls(value.get("adapter"), strength, prompt, **texts)

    def variant(self, engine: Engine) -> Variant:
        """Raises BadSetting for an adapter that is not loaded, and for a part of none; BadQuestion for layers or
        modules that cannot be read, and for a strength out of range."""
        if self.adapter is None:
            if self.layers or self.modules:
                raise BadSetting("column-part-of-base", part=(self.layers or self.modules)[:40])
            found = BASE
        else:
            found = Variant.of(loaded_adapter(engine, self.adapter).name, self.strength,
                               read_layers(self.layers) if self.layers else None,
                               read_modules(self.modules) if self.modules else None)
        if self.prompt != "chat":
            found = replace(found, name=f"{found.name}, plain prompt", prompt=self.prompt)
        return replace(found, name=self.name, title=self.name) if self.name else found

    def as_dict(self) -> dict[str, Any]:
        """As `read` takes it, without what is left as it is."""
        return {name: value for name, value in vars(self).items() if value != getattr(AskedColumn, name)}

    def link(self) -> str:
        """Its part of an address, such as `lens~0.5~l:3-5`."""
        parts = [NO_ADAPTER if self.adapter is None else marked(self.adapter)]
        parts += [f"{self.strength:g}"] if self.strength != 1 and self.adapter is not None else []
        parts += [self.prompt] if self.prompt != "chat" else []
        texts = {key: getattr(self, name) for key, name in OF_LINK.items()}
        return PARTS.join([*parts, *(f"{key}:{marked(text)}" for key, text in texts.items() if text)])

    @classmethod
    def from_link(cls, text: str) -> AskedColumn:
        """What `link` wrote; odd numbers become the nearest allowed ones, and a name is cut to the longest."""
        adapter, *parts = text.split(PARTS)
        found: dict[str, Any] = {"adapter": None if adapter == NO_ADAPTER else valid_text(unquote(adapter))}
        for part in parts:
            key, colon, value = part.partition(":")
            if colon and key in OF_LINK:
                found[OF_LINK[key]] = valid_text(unquote(value)).strip()
            elif part in get_args(Form):
                found["prompt"] = part
            else:
                found["strength"] = bounded(part, 1.0, (RANGES["strength"].low, RANGES["strength"].high))
        return cls(**{**found, "name": found.get("name", "")[:LONGEST_NAME]})


def link_of(columns: Sequence[AskedColumn]) -> str:
    return BETWEEN.join(column.link() for column in columns)


def from_link(text: str) -> tuple[AskedColumn, ...]:
    """The columns that `link_of` wrote; of "" none, the base alone."""
    return tuple(AskedColumn.from_link(part) for part in text.split(BETWEEN) if part)


def shown_columns(engine: Engine) -> tuple[AskedColumn, ...]:
    """Those beside the base that an engine has unless others are asked for."""
    return tuple(AskedColumn(variant.adapter) for variant in engine.variants([1.0]) if variant.adapter)


def columns_of(variants: Sequence[Variant]) -> list[Variant]:
    """The variants under unique names. Raises BadQuestion where one question cannot have as many."""
    if len(variants) > MOST_COLUMNS:
        raise BadQuestion("too-many-columns", columns=len(variants), most=MOST_COLUMNS)
    return unique_names(variants)


def columns_asked(engine: Engine, columns: object) -> list[Variant]:
    """The variants of a program's `columns`, a list of what `AskedColumn` has, each key by default as there. Raises
    LensError."""
    if not isinstance(columns, list) or not columns:
        raise BadSetting("columns-expected", value=repr(columns)[:80])
    return columns_of([AskedColumn.read(column).variant(engine) for column in columns])
