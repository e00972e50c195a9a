"""What programs are offered that no tab shows: which adapters are loaded, and every named endpoint as an MCP tool.

`compare` and `score` stand with the tabs that ask the same (compare/answering.py, changed/tab.py).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from functools import wraps
from importlib.util import find_spec

import gradio as gr
from gradio.block_function import BlockFunction
from gradio.components.api_component import Api

from compare.engine.interface import Engine, LoadedAdapter
from compare.event_log import with_sentence


class Page(gr.Blocks):
    """Blocks in which a program may leave off an endpoint's last values: they have their defaults, so that what was
    written before a parameter was added goes on working. Gradio fills in those that are named, and no others."""

    async def preprocess_data(self, block_fn: BlockFunction, inputs: list, *rest, **named) -> list:
        missing = [block.value for block in block_fn.inputs[len(inputs):] if isinstance(block, Api)]
        return await super().preprocess_data(block_fn, [*inputs, *missing], *rest, **named)


def error_as_answer(fn: Callable) -> Callable:
    """A function that answers dicts, or yields them, and what goes wrong in it as {"error": {"code", "message",
    "message_zh"}}."""
    def error(err: Exception) -> dict:
        return {"error": with_sentence(err).as_dict()}

    @wraps(fn)
    def answers(*given, **named) -> dict:
        try:
            return fn(*given, **named)
        except Exception as err:
            return error(err)

    @wraps(fn)
    def streams(*given, **named) -> Iterator[dict]:
        try:
            yield from fn(*given, **named)
        except Exception as err:
            yield error(err)

    return streams if inspect.isgeneratorfunction(fn) else answers


def endpoint(fn: Callable, returns: type, **options) -> None:
    """Offer a function or method under its own name, which is its tool's name too. `options`: of `gr.api`.

    `returns`: the type of what comes back, each time where it streams; Gradio reads it off the annotation, which it
    does not understand where annotations are postponed.
    """
    getattr(fn, "__func__", fn).__annotations__["return"] = returns
    gr.api(fn, api_name=fn.__name__, **options)


def as_dict(adapter: LoadedAdapter) -> dict:
    settings = adapter.files.settings
    return {"name": adapter.name, "sha256": adapter.sha256, "base_sha256": adapter.files.base_sha256, "r": settings.r,
            "lora_alpha": settings.lora_alpha, "use_rslora": settings.use_rslora,
            "target_modules": list(adapter.files.modules),
            "layers_to_transform": settings.layers_to_transform and list(settings.layers_to_transform),
            "parameters": adapter.files.parameters, "step": adapter.step,
            "timeline": not adapter.shown}


def offer(engine: Engine) -> None:
    """Add the endpoint `/adapters` to the current Blocks."""
    def adapters() -> list[dict]:
        """The LoRA adapters that are loaded, in the order of the columns of a comparison, none twice.

        Returns:
            a list with, for each adapter: `name` (as `score` takes it), `sha256` of its weights, `base_sha256` of the
            weights it was trained on or null, `r`, `lora_alpha`, `use_rslora`, `target_modules`,
            `layers_to_transform` or null for all, `parameters`, training `step` or null, and `timeline`: true for a
            checkpoint that is no column of a comparison
        """
        return [as_dict(adapter) for adapter in engine.adapters.values()]

    endpoint(adapters, list[dict])


def speaks_mcp() -> bool:
    """Is the package there that Gradio's MCP server needs? Without it Gradio prints an error at every start."""
    return find_spec("mcp") is not None
