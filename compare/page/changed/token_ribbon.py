"""Two answers as ribbons of tokens: what the template and the closer look of token_ribbon.js get of each token."""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from markupsafe import Markup, escape

from compare.analysis.token_shift import Position, Shift, View
from compare.page.changed.end_probability import draw_end_probability, percent
from compare.page.shared.templates import as_json, draw

KL_LEVELS = (0.1, 0.5, 2.0, 4.0)  # nats, at which the next darker shade begins
CATEGORIES = ("unshifted", "marginal", "shifted")
SIDES = ("base", "adapted")


def stand_in(text: str) -> str:
    """How a token that is not plain ink is shown; "" where it shows itself. "" is a piece of a character."""
    if text and not text.isspace() and "\n" not in text:
        return ""
    return text.replace("\n", "⏎").replace(" ", "␣").replace("\t", "⇥") or "⋯"


def digits(value: float) -> float:
    return float(f"{value:.4g}")


def record(position: Position, end_id: int) -> dict:
    """What token_ribbon.js shows of one token."""
    def seen(view: View) -> dict:
        top = [[c.text, digits(c.probability), int(c.token_id == position.token_id), int(c.token_id == end_id),
                c.token_id]
               for c in view.top]
        return {"p": digits(math.exp(view.log_probability)), "rank": view.rank, "end": digits(view.end_probability),
                "top": top}

    return {"id": position.token_id, "text": position.text, "class": position.category, "kl": digits(position.kl),
            "choice": position.choice_rank, "end": int(position.token_id == end_id),
            "base": seen(position.base), "adapted": seen(position.adapted)}


def ribbon(positions: Sequence[Position], end_id: int) -> dict[str, object]:
    """One answer: its tokens, how many fell into each class, and the data of the closer look."""
    counts = {name: sum(p.category == name for p in positions) for name in CATEGORIES}
    tokens = [{"index": i, "category": p.category, "text": p.text, "stand_in": stand_in(p.text),
               "level": bisect_right(KL_LEVELS, p.kl), "kl": f"{p.kl:.2g}", "end": p.token_id == end_id}
              for i, p in enumerate(positions)]
    return {"tokens": tokens, "counts": counts, "data": as_json([record(p, end_id) for p in positions]),
            "shares": {name: percent(n / len(positions)) for name, n in counts.items()} if positions else {}}


def draw_shift(shift: Shift, end_id: int, asked: Mapping[str, str] = MappingProxyType({}),
               inside: bool = False, end: str = "</s>") -> Markup:
    """All of one shift. `asked`: question, instruction and adapter, which token_ribbon.js sends back where an answer
    is turned; `inside`: may a token be looked at layer by layer? `end`: the end token's text."""
    zh, en = (Markup(re.sub(r"(\d+%)", r"<b>\1</b>", str(escape(shift.sentence.said(language))), count=1))
              for language in ("zh", "en"))
    edges = [f"< {KL_LEVELS[0]:g}", *(f"{a:g}–{b:g}" for a, b in zip(KL_LEVELS, KL_LEVELS[1:], strict=False)),
             f"≥ {KL_LEVELS[-1]:g}"]
    return draw("changed/token_ribbon", "shift", zh=zh, en=en, parts_at=shift.parts_at, asked=as_json(dict(asked)),
                inside=inside,
                ribbons={side: ribbon(getattr(shift, side), end_id) for side in SIDES}, edges=edges,
                ending=draw_end_probability(shift, end_id, end))


def draw_writing(texts: Sequence[str] = ("", "")) -> Markup:
    """While both answers are being written: their texts so far."""
    return draw("changed/token_ribbon", "writing", texts=dict(zip(SIDES, texts, strict=True)))
