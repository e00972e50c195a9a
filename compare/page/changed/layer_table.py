"""One token of an answer, layer by layer: what both models would say there, and how far their states are apart."""

from __future__ import annotations

from markupsafe import Markup

from compare.analysis.layer_lens import AfterLayer, ByLayer
from compare.page.changed.adapter_map import LEVELS
from compare.page.changed.end_probability import percent
from compare.page.changed.token_ribbon import stand_in
from compare.page.frame.words import Words
from compare.page.shared.templates import draw
from lens.errors import LensError


def level(ratio: float, largest: float) -> int:
    """A shade, 0 to LEVELS - 1, as a share of the largest."""
    return min(LEVELS - 1, int(LEVELS * ratio / largest)) if largest else 0


def words(after: AfterLayer) -> list[dict[str, str]]:
    return [{"text": stand_in(c.text) or c.text, "share": percent(c.probability)} for c in after.top]


def draw_layers(found: ByLayer) -> Markup:
    """The section of the first token that was asked for."""
    [token, *_] = found.tokens
    largest = max(map(max, found.changes))
    rows = []
    for layer, here in enumerate(found.at(token)):
        changes = [here, *(found.largest([layer], span).ratio for span in (found.prompt, found.answer))]
        rows.append({"layer": layer, "base": words(token.base.layers[layer]),
                     "adapted": words(token.adapted.layers[layer]),
                     "changes": [{"share": percent(one), "level": level(one, largest)} for one in changes]})
    strip = {"width": len(found.changes[0]), "prompt": found.prompt_tokens,
             "cells": [(y, x, shade) for y, layer in enumerate(found.changes) for x, one in enumerate(layer)
                       if (shade := level(one, largest))]}
    return draw("changed/layer_table", "table", token=token.index + 1, word=stand_in(token.text) or token.text,
                rows=rows, leads={"base": token.base.leads_from, "adapted": token.adapted.leads_from},
                change=Words.of(found.sentence), strip=strip)


def draw_waiting(asked: str) -> Markup:
    """A button that looks at a token. `asked`: JSON that it sends."""
    return draw("changed/layer_table", "waiting", asked=asked)


def draw_cannot(why: LensError) -> Markup:
    """In place of it, of a base whose layers cannot be looked at one by one."""
    return draw("changed/layer_table", "cannot", why=why)
