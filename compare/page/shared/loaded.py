"""What is loaded: base, adapter, device, dtype, versions."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from compare.engine.interface import Engine
from compare.page.shared.column_list import first_adapter


def installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "?"


def facts(engine: Engine) -> dict[str, str]:
    """Name → value, in the order shown."""
    known, adapter = engine.facts, first_adapter(engine)
    return {"base": known.base_name, "parameters": f"{known.parameters / 1e6:,.1f} M",
            "adapter": adapter.name if adapter else "none",
            **({"r": str(adapter.r), "sha256": adapter.sha256[:12]} if adapter else {}),
            "device": known.device, "dtype": known.dtype,
            **{name: installed(name) for name in ("torch", "transformers", "peft", "gradio")}}


def lora_share(engine: Engine) -> dict[str, str]:
    """How many parameters the first adapter has, and their share of all; empty texts where there is none."""
    if not (adapter := first_adapter(engine)):
        return {"lora": "", "share": ""}
    count = adapter.files.parameters
    return {"lora": f"{count:,}", "share": f"{100 * count / (engine.facts.parameters + count):.2g}%"}
