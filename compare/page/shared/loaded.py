"""What is loaded: base, adapter, device, dtype, versions; and how to bring one's own. Reads, never loads."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from html import escape
from importlib.metadata import PackageNotFoundError, version
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from compare.page.shared.words import Words, both

if TYPE_CHECKING:  # the page is given its engine, and loads none
    from compare.engine.engine import Engine

LOADED = Words("已加载", "Loaded")
OWN = Words("换成你自己的 BLOOM 和适配器：两个选项即可。适配器目录是 python -m train 或 PEFT 写出的那种。",
            "Your own BLOOM and adapter take two options. An adapter directory is what python -m train or PEFT wrote.")
COMMAND = "python app.py --base bigscience/bloom-1b1 --adapter runs/mine"
NO_ADAPTER = Words("没有适配器：只有一列原模型。用 --adapter 指定一个。",
                   "No adapter is loaded, so there is the base alone. Name one with --adapter.")
# No left and right: on phones one stands below the other.
SHARE = Words("先看原模型；再看同一份权重，只多了 {n} 个 LoRA 参数，占全部的 {share}。",
              "First the base. Then the very same weights plus {n} LoRA parameters, {share} of all.")


def lora_parameters(weights: Path) -> int:
    """Values in a safetensors file, counted from its header (8 bytes of length, then JSON)."""
    with weights.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return sum(prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")


def installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "?"


@dataclass(frozen=True)
class Loaded:
    """The facts about one engine, for the page and for what is downloaded from it."""

    engine: Engine

    @cached_property
    def facts(self) -> dict[str, str]:
        """Name → value, in the order shown."""
        engine, files = self.engine, self.engine.files
        return {"base": engine.base_name, "parameters": f"{engine.parameters / 1e6:,.1f} M",
                "adapter": files.name if files else "none",
                **({"r": str(files.r), "sha256": files.sha256[:12]} if files else {}),
                "device": str(engine.device), "dtype": str(engine.dtype).removeprefix("torch."),
                **{name: installed(name) for name in ("torch", "transformers", "peft", "gradio")}}

    def headline(self) -> str:
        """What stands beside what, in one sentence, from the files themselves."""
        if not self.engine.files:
            return NO_ADAPTER.html()
        count = lora_parameters(self.engine.files.path / "adapter_model.safetensors")
        return SHARE.html(n=f"{count:,}", share=f"{100 * count / (self.engine.parameters + count):.2g}%")

    def chips(self) -> str:
        """A description list in one row."""
        pairs = "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in self.facts.items())
        name = f'<span class="lens-group-name">{LOADED.html()}</span>'
        notes = "".join(f'<p class="lens-note">{both(*(escape(note.said(x)) for x in ("zh", "en")))}</p>'
                        for note in getattr(self.engine, "notes", ()))
        return f'<div class="lens-loaded">{name}<dl>{pairs}</dl>{notes}</div>'

    def own(self) -> str:
        command = f'<pre tabindex="0"><code>{escape(COMMAND)}</code></pre>'
        return f'<div class="lens-own-model"><p>{OWN.html()}</p>{command}</div>'
