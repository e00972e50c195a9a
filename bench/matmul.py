"""The ways to multiply a few rows with a weight matrix, in microseconds: python -m bench.matmul"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F

from compare.models.cpu_matmul import CACHE, by_onednn, on_the_left

SHAPES = ((768, 256), (1024, 256), (256, 1024), (8064, 256),  # out, in: the embedded base's,
          (576, 576), (1536, 576), (576, 1536),  # SmolLM2's,
          (4608, 1536))  # bloom-1b1's
ROWS = (1, 2, 4, 8, 12, 16, 32, 64)
WEIGHTS = 2 * CACHE  # bytes in use in turn, so that no cache holds them all
VOCABULARY = (250_880, 512)  # of every BLOOM, as wide as two cores do in a sitting


def turned(weight: torch.Tensor) -> torch.Tensor:
    """The same matrix, laid out the other way round in memory."""
    return weight.t().contiguous().t()


WAYS = {"F.linear": F.linear, "wide matrix on the left": on_the_left, "oneDNN": by_onednn}


def microseconds(call: Callable, weights: list[torch.Tensor]) -> float:
    times = []
    for _ in range(10):
        began = time.perf_counter()
        for weight in weights:
            call(weight)
        times.append(time.perf_counter() - began)
    return statistics.median(times[1:]) / len(weights) * 1e6


@torch.inference_mode()
def main() -> None:
    ways = [*WAYS, "oneDNN, turned"]
    print("| out × in | rows | threads | " + " | ".join(ways) + " |\n|" + " --- |" * (3 + len(ways)))
    for wide, narrow in (*SHAPES, VOCABULARY):
        weights = [torch.randn(wide, narrow) for _ in range(max(1, WEIGHTS // (wide * narrow * 4)))]
        others, bias = [turned(weight) for weight in weights], torch.randn(wide)
        for rows in ROWS:
            x = torch.randn(rows, narrow)
            found = [microseconds(lambda w, way=way, x=x, b=bias: way(x, w, b), weights) for way in WAYS.values()]
            found.append(microseconds(lambda w, x=x, b=bias: by_onednn(x, w, b), others))
            print(f"| {wide} × {narrow} | {rows} | {torch.get_num_threads()} | " +
                  " | ".join(f"{one:.0f}" for one in found) + " |", flush=True)


if __name__ == "__main__":
    main()
