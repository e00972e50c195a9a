"""The numbers of the picture of LoRA: how thick A and B are drawn, and what the loaded model's controls start at."""

from __future__ import annotations

import random
from collections.abc import Collection

from markupsafe import Markup

from compare.page.shared.model_sizes import Shape, human, memory, share
from compare.page.shared.templates import draw

LARGEST_RANK = 64
SIDE = 76  # of W₀ in the picture, standing for what goes in; W₀ of query_key_value is three of them high
LOWEST, HIGHEST = 110, 3 * SIDE  # of W₀, so that what is written in it has room
THINNEST, THICKEST = 1.5, 30.0  # of A and B


def shades(name: str) -> list[float]:
    """Of the 8 × 8 squares in a matrix's pattern."""
    lot = random.Random(name)
    return [lot.uniform(.25, 1) for _ in range(64)]


def draw_explorer(shape: Shape, base: int, r: int, modules: Collection[str]) -> Markup:
    """The picture with its controls and figures. `base`: parameters of the loaded model; `r`: 1 to 64."""
    known = [name for name in modules if name in shape.linears] or list(shape.usual)
    name = next((one for one in known if shape.linears[one].attention), known[0])
    wide, tall = shape.linears[name].in_features, shape.linears[name].out_features
    unit = SIDE / min(wide, 256)  # pixels a unit of rank: to scale up to a width of 256
    high = SIDE * tall / wide
    trainable = shape.lora(r, [one for one in modules if one in shape.linears])
    needed = memory(base, trainable)
    return draw("howto/lora_drawing", "explorer", shape=shape, base=base, r=r, largest_rank=LARGEST_RANK, unit=unit,
                drawn={"name": name, "wide": wide, "tall": tall, "to_scale": LOWEST <= high <= HIGHEST},
                modules={one: {"parameters": shape.lora(1, (one,)), "chosen": one in modules}
                         for one in shape.linears},
                picture_values={"side": SIDE, "high": round(min(HIGHEST, max(LOWEST, high))),
                                "thick": min(THICKEST, max(THINNEST, r * unit)),
                                "shades": {name: shades(name) for name in "ab"}},
                figures={"trainable": trainable, "share": share(trainable, base), "file": human(4 * trainable),
                         "base": human(2 * base), "train": human(needed.train_lora),
                         "train_all": human(needed.train_all)})
