"""Where in the model the adapter sits: shades for a heat map by layer and module, and of each layer's heads."""

from __future__ import annotations

from collections.abc import Iterable

from markupsafe import Markup

from compare.analysis.adapter_norms import PARTS, Anatomy, Site, Size
from compare.page.shared.templates import draw
from lens.adapter.fit import LINEAR_LAYERS

LEVELS = 5  # shades, the lightest for less than a fifth of the largest


def shade(size: Size, largest: float) -> dict[str, object]:
    """An update's size beside its weights', and its shade, 0 to LEVELS - 1, as a share of the largest."""
    level = min(LEVELS - 1, int(LEVELS * size.ratio / largest)) if size.ratio and largest else 0
    return {"ratio": size.ratio, "level": level}


def cell(site: Site, largest: float, largest_head: float) -> dict[str, object]:
    return {**shade(site.whole, largest), "layer": site.layer, "module": site.module,
            "heads": [{part: shade(sizes[part], largest_head) for part in PARTS} for sizes in site.heads]}


def draw_map(anatomy: Anatomy, names: Iterable[str] = LINEAR_LAYERS) -> Markup:
    """The section: sentence, heat map, and the heads of the layer whose attention changed most, already open.

    `names`: of the base's linear layers, in their order."""
    sites = anatomy.sites
    largest = max((s.whole.ratio or 0 for s in sites), default=0)
    of_heads = max((size.ratio or 0 for s in sites for head in s.heads for size in head.values()), default=0)
    cells = [cell(site, largest, of_heads) for site in sites]
    attention = [one for one in cells if one["heads"]]
    by_size = lambda one: one["ratio"] or 0  # noqa: E731
    layers: dict[int, dict] = {n: {} for n in range(min(s.layer for s in sites), max(s.layer for s in sites) + 1)}
    for site, one in zip(sites, cells, strict=True):
        layers[site.layer][site.module] = one
    found = {site.module for site in sites}
    modules = [*(name for name in names if name in found), *sorted(found - set(names))]
    return draw("changed/adapter_map", "map", adapter=anatomy.adapter, layers=layers, modules=modules, levels=LEVELS,
                most=max(cells, key=by_size), attention=attention,
                opened=max(attention, key=by_size)["layer"] if attention else None)
