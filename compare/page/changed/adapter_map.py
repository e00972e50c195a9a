"""Where in the model the adapter sits: a heat map by layer and module, and of each layer's attention by head.

Escaped HTML tables from a `compare.analysis.adapter_norms.Anatomy`, each cell with its figure as well as its shade;
coloured by changed.css, opened by heat.js.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from compare.analysis.adapter_norms import PARTS, Anatomy, Site, Size
from compare.page.howto.lora_drawing import WHAT
from compare.page.shared.words import both, heading

LEVELS = 5  # shades, the lightest for less than a fifth of the largest
ATTENTION = "query_key_value"
OF_PART = {"q": ("查询", "query"), "k": ("键", "key"), "v": ("值", "value")}


def figure(size: Size | None) -> str:
    """An update's size beside its weights', as a percentage; "–" where there is none."""
    if size is None or size.ratio is None:
        return "–"
    return f"{100 * size.ratio:.0f}%" if size.ratio >= 0.0995 else f"{100 * size.ratio:.1f}%"


def level(size: Size | None, largest: float) -> int:
    """0 to LEVELS - 1, as a share of the largest ratio."""
    if size is None or not size.ratio or not largest:
        return 0
    return min(LEVELS - 1, int(LEVELS * size.ratio / largest))


def cell(site: Site | None, largest: float, opened: int | None) -> str:
    """One layer's module; the attention with heads is a button."""
    if site is None:
        return '<td class="none">–</td>'
    shade, said = level(site.whole, largest), figure(site.whole)
    if not site.heads:
        return f'<td data-kl="{shade}">{said}</td>'
    name = f"{said}，第 {site.layer} 层的头 · heads of layer {site.layer}"
    return (f'<td data-kl="{shade}"><button type="button" data-layer="{site.layer}" '
            f'aria-controls="lens-heads-{site.layer}" aria-expanded="{str(site.layer == opened).lower()}" '
            f'aria-label="{name}">{said}<span aria-hidden="true"> ▸</span></button></td>')


def layers(sites: Mapping[tuple[int, str], Site], opened: int | None) -> str:
    """The table of all layers."""
    modules = [m for m in WHAT if any(module == m for _, module in sites)]
    numbers = range(min(n for n, _ in sites), max(n for n, _ in sites) + 1)
    largest = max((s.whole.ratio or 0 for s in sites.values()), default=0)
    head = "".join(f'<th scope="col">{both(*WHAT[m])}<code>{m}</code></th>' for m in modules)
    rows = "".join(f'<tr><th scope="row">{n}</th>' + "".join(
        cell(sites.get((n, m)), largest, opened) for m in modules) + "</tr>" for n in numbers)
    name = "各层各模块的改动 · Update by layer and module"
    return (f'<div class="scroll" tabindex="0" role="region" aria-label="{name}"><table class="heat"><thead>'
            f'<tr><th scope="col">{both("层", "Layer")}</th>{head}</tr></thead>'
            f"<tbody>{rows}</tbody></table></div>")


def heads(site: Site, largest: float, opened: bool) -> str:
    """One layer's attention, a head a row: q, k and v."""
    head = "".join(f'<th scope="col">{both(*OF_PART[p])} <code>{p}</code></th>' for p in PARTS)
    rows = "".join(f'<tr><th scope="row">{i}</th>' + "".join(
        f'<td data-kl="{level(sizes[p], largest)}">{figure(sizes[p])}</td>' for p in PARTS) + "</tr>"
        for i, sizes in enumerate(site.heads))
    title = both(f"第 {site.layer} 层的注意力，逐个头", f"Attention of layer {site.layer}, head by head")
    return (f'<div class="heads" id="lens-heads-{site.layer}" data-heads="{site.layer}"{"" if opened else " hidden"}>'
            f'<h3>{title}</h3><table class="heat"><thead><tr><th scope="col">{both("头", "Head")}</th>{head}</tr>'
            f"</thead><tbody>{rows}</tbody></table></div>")


def most(anatomy: Anatomy) -> str:
    """Where the adapter changed most, in a sentence."""
    site = max(anatomy.sites, key=lambda s: s.whole.ratio or 0)
    zh, en = WHAT.get(site.module, (site.module, site.module))
    size = f"<b>{figure(site.whole)}</b>"
    return both(f"改动最大的是第 {site.layer} 层的“{escape(zh)}”：更新的大小是原权重的 {size}。",
                f"Most changed: layer {site.layer}, “{escape(en)}”: the update is {size} the size of the weights.",
                "p")


def legend() -> str:
    keys = "".join(f'<i class="key" data-kl="{i}"></i>' for i in range(LEVELS))
    return (f'<p class="scale">{both("几乎没动", "hardly moved")} {keys} {both("动得最多", "moved most")} '
            "<code>‖s·BA‖ / ‖W‖</code></p>")


def draw(anatomy: Anatomy) -> str:
    """The section: sentence, heat map, and the heads of the layer whose attention changed most, already open."""
    sites = {(s.layer, s.module): s for s in anatomy.sites}
    attention = [s for s in anatomy.sites if s.module == ATTENTION and s.heads]
    opened = max(attention, key=lambda s: s.whole.ratio or 0).layer if attention else None
    largest = max((size.ratio or 0 for s in attention for head in s.heads for size in head.values()), default=0)
    panels = "".join(heads(s, largest, s.layer == opened) for s in attention)
    hint = both("点一层的注意力，看它的每个头。", "Pick a layer's attention to see its heads.") if attention else ""
    top = heading("适配器改了模型的哪里？", "Where in the model is the adapter?",
                  "每一层的每个模块：适配器加上去的更新 s·BA，相对于原来的权重 W 有多大。",
                  "For every layer and module: how large the update s·BA is beside the weights W it is added to.")
    return (f'<section class="where" data-adapter="{escape(anatomy.adapter)}">{top}'
            f'<div class="keys"><div class="most">{most(anatomy)}</div>{legend()}</div>'
            f'<div class="maps"><div>{layers(sites, opened)}<p class="fine">{hint}</p></div>'
            f'<div class="panels">{panels}</div></div></section>')
