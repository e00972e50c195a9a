"""The map of one answer as two heat maps: what each part of the adapter gives alone, and what is lost without it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from markupsafe import Markup

from compare.analysis.layer_map import LayerMap, Part
from compare.engine.question import shown_layers
from compare.page.changed.adapter_map import LEVELS
from compare.page.frame.words import Words
from compare.page.shared.templates import draw

SIDES = ("gained", "lost")
Written = Mapping[str, str]  # a part as a column has it: `layers` and `modules`


def shade(value: float, largest: float, side: str) -> dict[str, object]:
    """A figure in nats, without its sign as `size`, and its shade, 0 to LEVELS - 1, as a share of the largest on its
    map."""
    level = min(LEVELS - 1, int(LEVELS * abs(value) / largest)) if largest else 0
    size = f"{abs(value):.1f}"
    sign = "" if float(size) == 0 else "−" if value < 0 else "+" if side == "gained" else ""
    return {"figure": sign + size if float(size) else "0", "size": size, "below": sign == "−", "level": level,
            "minus": value < 0 and level > 0}


def alone(part: Part) -> Written:
    return {"layers": str(part.layer), "modules": part.kind or ""}


def all_but(part: Part, parts: Sequence[Part]) -> Written | None:
    """The rest of the adapter, which changes these parts; None where no column is that: one is some modules in some
    layers, so either the whole layer is left out, or the kind in all layers."""
    kinds = [one for one in parts if one.kind]
    rest = [one for one in kinds if one.layer != part.layer or part.kind not in (None, one.kind)]
    layers, modules = (list(dict.fromkeys(getattr(one, name) for one in rest)) for name in ("layer", "kind"))
    if rest and part.layer not in layers:
        return {"layers": shown_layers(layers), "modules": ""}
    if rest and part.kind not in (None, *modules):
        return {"layers": "", "modules": ",".join(modules)}
    return None


def draw_answer_map(found: LayerMap, link: Callable[[Written], str | None]) -> Markup:
    """The section, the part that gives most open. `link`: to a part as a column; None: it would be too long."""
    rests = [all_but(part, found.parts) for part in found.parts]
    largest = {side: max(abs(getattr(part, side)) for part in found.parts) for side in SIDES}
    parts = [{"id": f"{part.layer}-{part.kind or 'layer'}", "layer": part.layer, "kind": part.kind,
              "name": Words.of(part.name), "link": link(alone(part)),
              "has_rest": bool(rest), "rest_link": rest and link(rest),
              **{side: shade(getattr(part, side), largest[side], side) for side in SIDES}}
             for part, rest in zip(found.parts, rests, strict=True)]
    rows: dict[int, dict[str | None, dict]] = {}
    for part, cell in zip(found.parts, parts, strict=True):
        rows.setdefault(part.layer, {})[part.kind] = cell
    kinds: Sequence[str | None] = [*dict.fromkeys(part.kind for part in found.parts if part.kind), None]
    most = max(range(len(parts)), key=lambda i: (bool(found.parts[i].kind), found.parts[i].gained))
    return draw("changed/answer_map", "map", sentence=Words.of(found.sentence), rows=rows, kinds=kinds, parts=parts,
                opened=parts[most]["id"], levels=LEVELS)


def draw_waiting(asked: str) -> Markup:
    """A button that measures it. `asked`: JSON that it sends."""
    return draw("changed/answer_map", "waiting", asked=asked)
