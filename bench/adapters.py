"""python -m bench.adapters: how long `python -m compare.adapters` takes for many adapters of the shape of bloom-1b1.

Writes random adapters to --scratch, runs the command as a process of its own, and deletes them.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LAYERS, WIDTH = 24, 1536
SHAPES = {"self_attention.query_key_value": (3, 1), "self_attention.dense": (1, 1), "mlp.dense_h_to_4h": (4, 1),
          "mlp.dense_4h_to_h": (1, 4)}  # output and input features, in widths


def write_adapter(folder: Path, rank: int, modules: list[str], seed: int) -> None:
    """A random adapter on these modules of every layer."""
    import torch
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for layer in range(LAYERS):
        for module in modules:
            out, wide = (WIDTH * times for times in SHAPES[module])
            key = f"base_model.model.transformer.h.{layer}.{module}.lora_"
            weights[f"{key}A.weight"] = torch.randn((rank, wide), generator=generator)
            weights[f"{key}B.weight"] = torch.randn((out, rank), generator=generator)
    folder.mkdir()
    save_file(weights, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": rank,
              "target_modules": [name.split(".")[1] for name in modules]}
    (folder / "adapter_config.json").write_text(json.dumps(config))


def processor_seconds() -> float:
    """Of all child processes that ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--adapters", type=int, default=40)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--all-linear", action="store_true", help="on all four modules, not query_key_value alone")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scratch", type=Path, help="where they fit (default: the system's)")
    args = parser.parse_args()
    modules = list(SHAPES)[:None if args.all_linear else 1]
    with tempfile.TemporaryDirectory(dir=args.scratch) as name:
        folders = [Path(name) / f"adapter-{n}" for n in range(args.adapters)]
        for seed, folder in enumerate(folders):
            write_adapter(folder, args.rank, modules, seed)
        taken = []
        for _ in range(args.rounds):
            began, busy = time.perf_counter(), processor_seconds()
            subprocess.run([sys.executable, "-m", "compare.adapters", *map(str, folders), "--json"], check=True,
                           stdout=subprocess.DEVNULL)
            taken.append((time.perf_counter() - began, processor_seconds() - busy))
    print(f"{args.adapters} adapters, rank {args.rank}, {LAYERS * len(modules)} layers each: "
          f"{', '.join(f'{wall:.1f} s ({busy:.1f} s of processor time)' for wall, busy in taken)}, imports included")


if __name__ == "__main__":
    main()
