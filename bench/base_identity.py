"""python -m bench.base_identity: how long it takes to tell a base by the contents of 2.1 GB of weights, warm.

Writes a file of the shape of bloom-1b1 in float16 to --scratch, reads it a few times, and deletes it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from lens.base.files import find_base
from lens.base.identity import identity
from lens.embedded import EMBEDDED_BASE

LAYERS, WIDTH, WORDS = 24, 1536, 250_880


def write_weights(folder: Path) -> None:
    """A base directory that `find_base` takes; its numbers are of no matter."""
    import torch
    from safetensors.torch import save_file

    shapes = {"self_attention.query_key_value": 3 * WIDTH, "self_attention.dense": WIDTH,
              "mlp.dense_h_to_4h": 4 * WIDTH, "mlp.dense_4h_to_h": 4 * WIDTH}
    weights = {f"h.{n}.{name}.weight": torch.randint(1 << 15, (rows, WIDTH), dtype=torch.int16).view(torch.float16)
               for n in range(LAYERS) for name, rows in shapes.items()}
    weights["word_embeddings.weight"] = torch.randint(1 << 15, (WORDS, WIDTH), dtype=torch.int16).view(torch.float16)
    save_file(weights, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": "bloom"}))
    shutil.copy(Path(EMBEDDED_BASE) / "tokenizer.json", folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--scratch", type=Path, help="where 2.1 GB fit (default: the system's)")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.scratch) as name:
        folder = Path(name)
        write_weights(folder)
        files = find_base(folder)
        identity(files)  # the pages are in memory from here on
        taken = []
        for _ in range(args.rounds):
            wall, busy = time.perf_counter(), time.process_time()
            identity(files)
            taken.append((time.perf_counter() - wall, time.process_time() - busy))
        size = files.weights[0].stat().st_size
    wall, busy = min(taken)
    print(f"{size:,} bytes: {wall:.2f} s at best, {statistics.median(w for w, _ in taken):.2f} s median of "
          f"{args.rounds}; {busy:.2f} s of processor time, {size / busy / 1e9:.2f} GB/s a core")


if __name__ == "__main__":
    main()
