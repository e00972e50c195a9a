"""The engine as replicas of Ray Serve, the page as one process in front: python -m deploy.ray_serve --replicas 4

Each replica is one `Engine` with a GPU (or a core) of its own and streams what its rows grow; the page, which
Gradio's queue ties to one process, holds no model (`remote_engine.py`).

Run on Ray 2.60 by `python -m bench.cluster`; its logic is tested against a stand-in, without Ray.
Needs requirements-cluster.txt.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from types import SimpleNamespace

from compare.analysis.adapter_norms import anatomy
from compare.engine.engine import Engine
from compare.engine.interface import Grown, Sampling, Variant
from compare.engine.remote import RemoteEngine
from compare.server.launch import Serving, add_serving_options
from lens.cli import Parser, add_model_options, chosen_adapters
from lens.embedded import EMBEDDED_ADAPTER, EMBEDDED_BASE
from lens.errors import LensError

ROOT = Path(__file__).resolve().parent.parent
AT_ONCE = 32  # questions under way in one replica


class Replica:
    """One Ray actor. `base` and `adapters` None: the embedded ones, wherever this node keeps them."""

    def __init__(self, base: str | None, adapters: Sequence[str] | None, device: str = "auto", dtype: str = "auto"):
        self.engine = Engine(base or EMBEDDED_BASE, adapters or ([] if base else EMBEDDED_ADAPTER), device, dtype)
        self.threads = ThreadPoolExecutor(AT_ONCE)  # for waiting, so that Serve's own loop stays free

    async def aside(self, function, *args):
        return await asyncio.get_running_loop().run_in_executor(self.threads, function, *args)

    async def facts(self) -> dict:
        """What the page says of the model."""
        e = self.engine
        return {"base_name": e.base_name, "device": e.device, "dtype": e.dtype, "parameters": e.parameters,
                "receipts": e.receipts, "model": SimpleNamespace(config=e.model.config)}

    async def answer(self, question: str, instruction: str, variants: Sequence[Variant],
                     sampling: Sampling) -> AsyncIterator[list[Grown]]:
        """Yield what the columns grow, step by step."""
        inbox: SimpleQueue = SimpleQueue()
        ask, left = self.engine.submit(question, instruction, variants, sampling, inbox), len(variants)
        try:
            while left:
                _, news = await self.aside(self.engine.owner.take, inbox)
                if isinstance(news, Exception):
                    raise news
                left -= sum(grown.finish_reason is not None for grown in news)
                yield news
        finally:
            ask.cancelled.set()  # all is said, or the visitor has left

    async def anatomy(self, name: str):
        return await self.aside(anatomy, self.engine.model, name)

    async def states(self, rows, variants):
        return (await self.aside(self.engine.states, rows, variants)).cpu()

    async def logits(self, states):
        return (await self.aside(self.engine.logits, states.to(self.engine.device))).cpu()


def serve_engine(args, least: int = 1):
    """Start Serve with `least` to `args.replicas` replicas, one a GPU (or a core); returns their handle."""
    import ray
    from ray import serve

    ray.init(runtime_env={"working_dir": str(ROOT), "excludes": [".git", ".venv", "runs", "tests"]})
    resources = {"num_gpus": 1} if ray.cluster_resources().get("GPU") else {"num_cpus": 1}
    scaling = {"min_replicas": least, "max_replicas": args.replicas, "target_ongoing_requests": AT_ONCE // 2}
    replica = serve.deployment(name="engine", ray_actor_options=resources, autoscaling_config=scaling,
                               max_ongoing_requests=AT_ONCE)(Replica)
    base = None if args.base == EMBEDDED_BASE else args.base
    return serve.run(replica.bind(base, args.adapter, args.device, args.dtype), name="lora-lens", route_prefix=None)


def main(argv: list[str] | None = None) -> int:
    parser = Parser(prog="python -m deploy.ray_serve", description="One page, many engines, by Ray Serve.")
    add_model_options(parser)
    parser.add_argument("--replicas", type=int, default=2, help="at most so many engines (default: 2)")
    add_serving_options(parser, "0.0.0.0", 7860)
    args = parser.parse_args(argv)
    from compare.page.page import build

    try:
        engine = RemoteEngine(serve_engine(args), args.base, chosen_adapters(args))
    except (LensError, ImportError) as err:
        print(f"error: {err}", file=sys.stderr)
        return 2
    Serving.of(args).launch(build(engine), engine)
    return 0


if __name__ == "__main__":
    sys.exit(main())
