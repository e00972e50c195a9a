"""LoRA as a picture: the frozen W₀ beside the two thin matrices A and B, drawn to the loaded model's shape.

Strings of HTML and inline SVG, coloured by howto.css and moved by drawing.js.
The picture is that of Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models" (2021), laid out as a product.
"""

from __future__ import annotations

import random
from collections.abc import Collection

from compare.page.shared.model_sizes import LINEAR_LAYERS, Memory, Shape, human, memory, share
from compare.page.shared.words import both

LARGEST_RANK = 64
SIDE = 76  # of W₀ in the picture, standing for hidden_size; W₀ of query_key_value is three of them high
THINNEST, THICKEST = 1.5, 30.0  # of A and B
WHAT = {"query_key_value": ("注意力：查询、键、值", "attention: query, key, value"),
        "dense": ("注意力：输出", "attention: output"),
        "dense_h_to_4h": ("前馈：放大", "feed-forward: up"),
        "dense_4h_to_h": ("前馈：收回", "feed-forward: down")}


def thickness_of_rank(shape: Shape) -> float:
    """Pixels of A and B a unit of rank: to scale up to hidden size 256, from there on as if it were 256."""
    return SIDE / min(shape.hidden_size, 256)


def noise(name: str) -> str:
    """A pattern of random shades: what a matrix full of numbers looks like."""
    shade = random.Random(name)
    cells = "".join(f'<rect x="{x}" y="{y}" width="3" height="3" opacity="{shade.uniform(.25, 1):.2f}"/>'
                    for x in range(0, 24, 3) for y in range(0, 24, 3))
    return (f'<pattern id="lens-{name}" width="24" height="24" patternUnits="userSpaceOnUse" class="{name}">'
            f"{cells}</pattern>")


def words(x: float, y: float, zh: str, en: str, anchor: str = "middle", kind: str = "note") -> str:
    """A line of the picture in both languages."""
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" class="{kind}">{both(zh, en, "tspan")}</text>'


def plain(x: float, y: float, text: str, kind: str, anchor: str = "middle", name: str = "") -> str:
    """A line that is the same in every language; drawing.js finds it by `name`."""
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" class="{kind}" data-n="{name}">{text}</text>'


LOCK = ('<g class="lock" transform="translate(39,176)"><rect x="0" y="8" width="18" height="14" rx="3"/>'
        '<path d="M4 8V5a5 5 0 0 1 10 0v3" fill="none"/></g>')
FLOW = """<path class="flow" d="M174 44C174 84 48 76 48 146"/>
<path class="flow lora" d="M258 128Q238 128 238 146"/><path class="flow" d="M48 384V424H155"/>
<path class="flow lora" d="M238 384V404"/><path class="flow lora" d="M223 424H193"/>
<path class="flow" d="M174 440V456"/>
<rect class="pill" x="104" y="12" width="140" height="32" rx="16"/>
<rect class="pill" x="104" y="462" width="140" height="32" rx="16"/>
<circle class="scale" cx="238" cy="424" r="15"/><circle class="sum" cx="174" cy="424" r="14"/>
<path class="plus" d="M167 424h14M174 417v14"/>"""


def picture(shape: Shape, r: int) -> str:
    """The inline SVG for one layer's query_key_value."""
    d, out = shape.hidden_size, 3 * shape.hidden_size
    thick = min(THICKEST, max(THINNEST, r * thickness_of_rank(shape)))
    small = " small" if out * d > 10**7 else ""
    name = (f"x 分两路：一路经过冻结的 W₀（{out}×{d}），一路经过 A（r×{d}）和 B（{out}×r），乘以 s 后相加。 "
            f"x goes two ways: through the frozen W₀ ({out} by {d}), and through A (r by {d}) and B ({out} by r), "
            "times s; the two are added.")
    return f"""<svg viewBox="0 0 400 502" role="img" aria-label="{name}">
<defs>{noise("a")}{noise("b")}<marker id="lens-tip" viewBox="0 0 8 8" refX="5" refY="4" markerWidth="7" markerHeight="7"
 orient="auto"><path d="M0 0L8 4L0 8z"/></marker></defs>
{FLOW}<path class="flow" data-n="x-a" d="M174 44C174 76 300 64 300 {134 - thick:g}"/>
{plain(174, 33, f"x · {d}", "name")}{plain(174, 483, f"h · {out}", "name")}{plain(238, 429, "×s", "name")}
<rect class="frozen" x="10" y="152" width="{SIDE}" height="{3 * SIDE}" rx="4"/>{LOCK}
{plain(48, 232, "W₀", "big")}{plain(48, 252, f"{out}×{d}", "size" + small)}{words(48, 274, "冻结", "frozen")}
<rect class="ghost" x="262" y="152" width="{SIDE}" height="{3 * SIDE}" rx="4"/>
{plain(300, 252, "B·A", "big")}{plain(300, 272, f"{out}×{d}", "size" + small)}{words(300, 294, "不必存", "not stored")}
<rect class="a" data-n="a" x="262" y="{140 - thick:g}" width="{SIDE}" height="{thick:g}" rx="1"/>
<rect class="b" data-n="b" x="{252 - thick:g}" y="152" width="{thick:g}" height="{3 * SIDE}" rx="1"/>
{plain(314, 74, "A", "name a", "start")}{plain(332, 74, f"{r}×{d}", "size", "start", "a-size")}
<g class="step-0">{words(314, 93, "随机", "random", "start")}</g>
<g class="step-n">{words(314, 93, "学到的", "learned", "start")}</g>
{plain(212, 236, "B", "name b", "end")}{plain(212, 256, f"{out}×{r}", "size", "end", "b-size")}
<g class="step-0">{words(212, 277, "全是 0", "all zero", "end")}</g>
<g class="step-n">{words(212, 277, "学到的", "learned", "end")}</g>
<text x="226" y="122" text-anchor="end" class="note">{both("只剩", "only", "tspan")} <tspan data-n="r"
 class="size">{r}</tspan> {both("个数", "numbers", "tspan")}</text></svg>"""


def ticks(shape: Shape, modules: Collection[str]) -> str:
    """A checkbox for each linear layer, carrying its parameters a unit of rank."""
    return "".join(
        f'<label class="tick"><input type="checkbox" name="module" data-each="{shape.lora(1, (name,))}" '
        f'{"checked" if name in modules else ""}><span><code>{name}</code>{both(*WHAT[name])}</span></label>'
        for name in LINEAR_LAYERS)


def tiles(base: int, trainable: int) -> str:
    """The three figures that follow the controls."""
    m: Memory = memory(base, trainable)
    part = share(trainable, base)
    return f"""<dl class="tiles">
<div class="wide"><dt>{both("要训练的参数", "Trainable parameters")}</dt>
<dd><output for="lens-rank"><strong data-n="trainable">{trainable:,}</strong></output>
<span>{both("占全部的", "of all:")} <b data-n="share">{part:.2%}</b></span>
<div class="bar" aria-hidden="true"><i data-n="bar" style="width:{part:.4%}"></i></div></dd></div>
<div><dt>{both("适配器文件", "Adapter file")}</dt><dd><strong data-n="file">{human(4 * trainable)}</strong>
<span>{both("底座", "base")} {human(2 * base)}</span></dd></div>
<div><dt>{both("训练占内存", "Memory to train")}</dt><dd><strong data-n="train">{human(m.train_lora)}</strong>
<span>{both("全部训练", "all of it")} {human(m.train_all)}</span></dd></div></dl>"""


def enlarged(shape: Shape) -> str:
    """How the picture departs from scale, where it does."""
    times = shape.hidden_size / 256
    if times <= 1:
        return both("A、B 与 W₀ 按比例画出。", "A and B are drawn to scale with W₀.")
    return both(f"为了看得见，A、B 画厚了 {times:.3g} 倍。",
                f"A and B are drawn {times:.3g} times too thick, to be seen at all.")


def explorer(shape: Shape, base: int, r: int, modules: Collection[str]) -> str:
    """The picture with its controls and figures. `base`: parameters of the loaded model; `r`: 1 to 64."""
    steps = (("冻结", "Freeze", "原模型的每个 W₀ 都锁住，一个数也不改。",
              "Every W₀ of the base is locked; not one number in it moves."),
             ("旁路", "Bypass", "旁边接两条细矩阵：A 把向量压到 r 个数，B 再展开回来。",
              "Beside it go two thin matrices: A squeezes the vector to r numbers, B spreads them out again."),
             ("从零开始", "Start at zero", "A 随机，B 全是 0，所以 s·B·A = 0：训练正好从原模型出发。",
              "A is random, B is zero, so s·B·A = 0: training begins exactly at the base."))
    items = "".join(f"<li><b>{both(a, b)}</b>{both(c, d, 'p')}</li>" for a, b, c, d in steps)
    return f"""<div class="explorer" data-base="{base}" data-hidden="{shape.hidden_size}"
 data-thick="{thickness_of_rank(shape):g}">
<figure data-step="0"><div class="steps" role="radiogroup" aria-label="训练前后 Before and after training">
<label><input type="radio" name="lens-step" value="0" checked>{both("训练开始", "At the start")}</label>
<label><input type="radio" name="lens-step" value="n">{both("训练之后", "After training")}</label></div>
{picture(shape, r)}
<figcaption><div class="step-0">{both("h = W₀x + 0　与原模型一字不差", "h = W₀x + 0: the base, exactly")}</div>
<div class="step-n">{both("h = W₀x + s·B·A·x　被推向新的方向", "h = W₀x + s·B·A·x: pushed a new way")}</div>
<small>{both("一层的", "One layer's")} <code>query_key_value</code>. {enlarged(shape)}</small></figcaption></figure>
<div class="panel"><ol class="three">{items}</ol>
<div class="control"><label for="lens-rank">{both("秩", "Rank")} <i>r</i> = <b data-n="rank">{r}</b></label>
<input id="lens-rank" type="range" min="1" max="{LARGEST_RANK}" value="{r}" aria-valuetext="r = {r}"></div>
<fieldset><legend>{both("给哪些矩阵接旁路", "Which matrices get a bypass")}</legend>{ticks(shape, modules)}</fieldset>
{tiles(base, shape.lora(r, modules))}
<p class="fine">{both(f"{shape.n_layer} 层，每层都有一对 A、B。以上是算出来的，不是测出来的。",
                     f"{shape.n_layer} layers, a pair of A and B in each. Computed, not measured.")}</p>
{symbols(shape.hidden_size)}</div></div>"""


def symbols(d: int) -> str:
    """What the letters of the picture stand for."""
    meaning = (("x", f"一个 token 的 {d} 个数", f"the {d} numbers of one token"),
               ("W₀", "原模型的权重", "the base's weights"),
               ("r", "旁路有多宽", "how wide the bypass is"), ("s", "旁路有多响", "how loud the bypass is"),
               ("h", "这一步的输出", "what comes out"))
    pairs = "".join(f"<div><dt>{s}</dt><dd>{both(z, e)}</dd></div>" for s, z, e in meaning)
    return f'<dl class="symbols">{pairs}</dl>'
