"""The two ways to give each row its own LoRA in one batch, timed: python -m bench.gate [--rows 12] [--adapters 4]

PEFT's own layer with a tensor in place of its `scaling`, (rows, 1, 1) for each active adapter, against
`compare.models.lora_rows`: all A and B stacked along the ranks, and a gate a row. On the first layer's
`query_key_value` of the embedded pair, one step (one position a row), the same rows at the same strengths; first
checked to give the same, then timed in turn.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F

from bench.engine import seconds
from bench.shared.random_base import copies
from compare.engine.interface import Variant
from compare.engine.local import LocalEngine
from compare.models.lora_rows import gate_of
from lens.adapter.directory import peft_key
from lens.base.linear_layers import linear_layers
from lens.embedded import EMBEDDED_ADAPTER, EMBEDDED_BASE

MODULE = "query_key_value"


def measure(engine: LocalEngine, rows: int, calls: int) -> tuple[float, float, float]:
    """Median microseconds by PEFT and by the gate, and the largest difference of their results."""
    names = list(engine.adapters)
    variants = [Variant.of(names[i % len(names)], 0.5 + i / rows) for i in range(rows)]
    layer = linear_layers(engine.loaded.model)[0, MODULE]
    keys = {name: peft_key(name) for name in names}
    engine.loaded.model.base_model.set_adapter(list(keys.values()))
    for name, key in keys.items():
        layer.scaling[key] = torch.tensor([v.strength * layer.scaling[key] if v.adapter == name else 0.0
                                           for v in variants])[:, None, None]
    gate = gate_of(variants, engine.loaded.stack_of)
    decoder = engine.loaded.decoder
    x, (weight, bias) = torch.randn(rows, 1, decoder.hidden_size), decoder.linears[0][MODULE]

    def by_peft() -> torch.Tensor:
        return layer(x)

    def by_gate() -> torch.Tensor:
        return gate.add(F.linear(x, weight, bias), x, 0, MODULE)

    with torch.inference_mode():
        apart = (by_peft() - by_gate()).abs().max().item()
        pairs = [(seconds(by_peft), seconds(by_gate)) for _ in range(calls)]
    peft, ours = (statistics.median(side) * 1e6 for side in zip(*pairs, strict=True))
    return peft, ours, apart


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=12)
    parser.add_argument("--adapters", type=int, default=4)
    parser.add_argument("--calls", type=int, default=2000)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        engine = LocalEngine(EMBEDDED_BASE, copies(Path(EMBEDDED_ADAPTER), Path(folder), args.adapters))
        peft, ours, apart = measure(engine, args.rows, args.calls)
    print(f"{args.rows} rows of {args.adapters} adapters: PEFT's scaling {peft:.0f} µs, stacked gate {ours:.0f} µs, "
          f"{peft / ours:.2f} times; largest difference {apart:.1e}")


if __name__ == "__main__":
    main()
