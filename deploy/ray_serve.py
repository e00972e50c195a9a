"""The engine as replicas of Ray Serve, the page as one process in front: python -m deploy.ray_serve --replicas 4

Each replica is one `LocalEngine` with a GPU (or a core) of its own and streams what its rows grow; the page, which
Gradio's queue ties to one process, holds no model (`compare/engine/remote.py`).

Run on Ray 2.60 by `python -m bench.cluster`; its logic is tested against a stand-in, without Ray.
Needs requirements-cluster.txt.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compare.engine.interface import Ability, Facts, Grown, LoadedAdapter, Question, Sampling, Step, Variant
from compare.engine.remote import RemoteEngine
from compare.server.launch import Serving, add_serving_options
from lens.cli import Parser, add_model_options, chosen_adapters, command, note_base_alone, same_place, say_notes
from lens.embedded import EMBEDDED_ADAPTER, EMBEDDED_BASE
from lens.errors import Note, Unavailable
from lens.threads import wait_passively

if TYPE_CHECKING:  # a replica loads it
    from compare.engine.local import LocalEngine

ROOT = Path(__file__).resolve().parent.parent
AT_ONCE = 32  # questions under way in one replica


class Replica:
    """One Ray actor. `base` and `adapters` None: the embedded ones, wherever this node keeps them. `template`: the text
    of a chat template in place of the base's own, as its file need not be on this node."""

    def __init__(self, base: str | None, adapters: Sequence[str] | None, device: str = "auto", dtype: str = "auto",
                 engine: LocalEngine | None = None, template: str = ""):
        wait_passively()
        from compare.engine.local import LocalEngine

        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "chat_template.jinja"
            file.write_text(template, encoding="utf-8")
            self.engine = engine or LocalEngine(base or EMBEDDED_BASE, adapters or ([] if base else EMBEDDED_ADAPTER),
                                                device, dtype, chat_template=str(file) if template else "")
        self.threads = ThreadPoolExecutor(AT_ONCE)  # for waiting, so that Serve's own loop stays free

    async def aside(self, function: Callable, *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self.threads, function, *args)

    async def facts(self) -> tuple[Facts, dict[str, LoadedAdapter], frozenset[Ability], list[Note]]:
        """What the page says of the model, what can be done with it, and what its user is to be told."""
        return self.engine.facts, dict(self.engine.adapters), self.engine.abilities, list(self.engine.notes)

    async def answer(self, question: Question, variants: Sequence[Variant],
                     sampling: Sampling) -> AsyncIterator[list[Grown]]:
        """Yield what the columns grow, step by step."""
        cancelled = threading.Event()
        events = self.engine.ask([question], variants, sampling, cancelled)
        try:
            while event := await self.aside(next, events, None):
                if isinstance(event, Step):
                    yield list(event.grown)
                elif error := getattr(event, "error", None):
                    raise error
        finally:
            cancelled.set()  # all is said, or the visitor has left

    async def call(self, method: str, *given: Any) -> Any:
        """What a method of the engine gives at once."""
        return await self.aside(getattr(self.engine, method), *given)


def serve_engine(base: str, adapters: Sequence[str] | None, device: str, dtype: str, most: int, least: int = 1,
                 template: str = "") -> Any:
    """Start Serve with `least` to `most` replicas, one a GPU (or a core); returns their handle. `template`: the text of
    a chat template that they use in place of the base's own."""
    import ray
    from ray import serve

    ray.init(runtime_env={"working_dir": str(ROOT), "excludes": [".git", ".venv", "runs", "tests"]})
    resources = {"num_gpus": 1} if ray.cluster_resources().get("GPU") else {"num_cpus": 1}
    scaling = {"min_replicas": least, "max_replicas": most, "target_ongoing_requests": AT_ONCE // 2}
    replica = serve.deployment(name="engine", ray_actor_options=resources, autoscaling_config=scaling,
                               max_ongoing_requests=AT_ONCE)(Replica)
    there = None if same_place(base, EMBEDDED_BASE) else base
    bound = replica.bind(there, adapters, device, dtype, template=template)
    return serve.run(bound, name="lora-lens", route_prefix=None)


@command
def main(argv: list[str] | None = None) -> int:
    parser = Parser(prog="python -m deploy.ray_serve", description="One page, many engines, by Ray Serve.")
    add_model_options(parser)
    parser.add_argument("--replicas", type=int, default=2, help="at most so many engines (default: 2)")
    add_serving_options(parser, "0.0.0.0", 7860)
    args = parser.parse_args(argv)
    from compare.page.page import build
    from lens.base.loading import read_template

    template = read_template(args.chat_template) if args.chat_template else ""
    try:
        handle = serve_engine(args.base, args.adapter, args.device, args.dtype, args.replicas, template=template)
    except ImportError as err:
        raise Unavailable("ray-missing", reason=err) from err
    engine = RemoteEngine(handle, args.base, chosen_adapters(args), args.chat_template)
    note_base_alone(args)
    say_notes(engine.notes)
    Serving.of(args).launch(build(engine), engine)
    return 0


if __name__ == "__main__":
    sys.exit(main())
