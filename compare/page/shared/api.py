"""What programs are offered that no tab shows: which adapters are loaded, and every named endpoint as an MCP tool.

`compare` and `score` stand with the tabs that ask the same (answering.py, changed.py).
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

import gradio as gr

from compare.page.shared.loaded import lora_parameters
from compare.report.report_settings import step_of


def endpoint(fn: Callable, returns: type, **options) -> None:
    """Offer a function or method under its own name, which is its tool's name too. `options`: of `gr.api`.

    `returns`: the type of what comes back, each time where it streams; Gradio reads it off the annotation, which it
    does not understand where annotations are postponed.
    """
    getattr(fn, "__func__", fn).__annotations__["return"] = returns
    gr.api(fn, api_name=fn.__name__, **options)


def entry(files, timeline: bool) -> dict:
    """One loaded adapter, from a `lens.adapter_dir.AdapterFiles`."""
    settings = files.settings
    return {"name": files.name, "sha256": files.sha256, "base_sha256": files.base_sha256, "r": settings.r,
            "lora_alpha": settings.lora_alpha, "use_rslora": settings.use_rslora,
            "target_modules": list(files.modules),
            "layers_to_transform": settings.layers_to_transform and list(settings.layers_to_transform),
            "parameters": lora_parameters(files.path / "adapter_model.safetensors"), "step": step_of(files.path),
            "timeline": timeline}


def offer(engine) -> None:
    """Add the endpoint `/adapters` to the current Blocks."""
    def adapters() -> list[dict]:
        """The LoRA adapters that are loaded, in the order of the columns of a comparison, none twice.

        Returns:
            a list with, for each adapter: `name` (as `score` takes it), `sha256` of its weights, `base_sha256` of the
            weights it was trained on or null, `r`, `lora_alpha`, `use_rslora`, `target_modules`,
            `layers_to_transform` or null for all, `parameters`, training `step` or null, and `timeline`: true for a
            checkpoint that is no column of a comparison
        """
        return [entry(files, name not in engine.shown) for name, files in engine.adapters.items()]

    endpoint(adapters, list[dict])


def speaks_mcp() -> bool:
    """Is the package there that Gradio's MCP server needs? Without it Gradio prints an error at every start."""
    return find_spec("mcp") is not None
