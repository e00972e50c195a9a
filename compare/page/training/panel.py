"""The folded panel of settings: a control for each that `python -m train` declares and the tab offers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from compare.server.trainings.declared import OFFERED, defaults, offered
from lens.adapter.fit import LINEAR_LAYERS

# What each control is called; the English stands in labels.toml.
NAMES = {"epochs": "轮数（0：按步数）", "r": "秩 r", "lora_alpha": "alpha", "lora_dropout": "dropout",
         "target_modules": "加 LoRA 的层", "learning_rate": "学习率", "schedule": "学习率的走法", "batch": "每步行数",
         "max_length": "每行最多 token", "drop_cut_rows": "不用会被截断的行", "seed": "随机种子",
         "from_adapter": "从哪个适配器开始", "columns": "列名", "encoding": "文件编码"}


def controls(recipe: str, adapters: list[str], layers: list[str]) -> list[Any]:
    """One for each offered setting, in its order, with the recipe's defaults."""
    usual, made = defaults(recipe), []
    for declaration in offered():
        name, kind = declaration["name"], declaration["kind"]
        shared = {"label": NAMES[name], "elem_id": f"training-{name.replace('_', '-')}"}
        choices = {"target_modules": layers, "from_adapter": ["", *adapters]}.get(name, declaration["choices"])
        value = shown(name, usual[name], layers)
        if choices:
            made.append(gr.Dropdown(choices, value=value, multiselect=declaration["many"], **shared))
        elif kind == "bool":
            made.append(gr.Checkbox(value, container=False, **shared))
        elif kind in ("int", "float"):
            made.append(gr.Number(value, **shared))
        else:
            made.append(gr.Textbox(value, placeholder="input=… output=…" if name == "columns" else "", max_lines=1,
                                   **shared))
    return made


def shown(name: str, value: Any, layers: Sequence[str]) -> Any:
    """A setting's value in its control: column names are written as on the command line, and of linear layers those
    that the base has; none are what is usual for its family."""
    if name == "target_modules":
        return [one for one in value if one in layers]
    return " ".join(value) if name == "columns" else value


def values_of(recipe: str, layers: Sequence[str] = LINEAR_LAYERS) -> list[Any]:
    """The recipe's defaults, in the controls' order."""
    usual = defaults(recipe)
    return [shown(name, usual[name], layers) for name in OFFERED]
