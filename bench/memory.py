"""Memory against step of a long run: python -m bench.memory --output bench/memory.png

Trains a tiny random BLOOM for 3,000 steps by `python -m train`, with everything on that could grow (log,
probes, held-out loss, checkpoints), and draws the memory that its own log recorded.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.shared.random_base import write_random_base
from train.record.log import draw, read_log


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--output", type=Path, required=True, help="PNG to write")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        base, out = Path(folder) / "base", Path(folder) / "adapter"
        write_random_base(base, vocab_size=8064, hidden_size=64, n_layer=2, n_head=4)
        subprocess.run([sys.executable, "-m", "train", "--base", base, "--output", out, "--device", "cpu",
                        "--max-steps", str(args.steps), "--eval-share", "0.02", "--eval-steps", "500",
                        "--probe-steps", "500", "--save-steps", "500"], check=True, stdout=sys.stderr)
        log = [r for r in read_log(out / "log.jsonl") if "loss" in r]
        in_mb = [{**r, "memory": r["memory"] / 1e6} for r in log]
        draw(in_mb, {"memory": "memory"}, "memory in use (MB)", args.output, "Memory of one run (resident set)",
             from_zero=True)
    first = max(100, args.steps // 30)
    early = max(r["memory"] for r in log if r["step"] <= first)
    late = max(r["memory"] for r in log if r["step"] > args.steps * 0.9)
    print(f"to step {first}: {early:,} bytes; last tenth: {late:,} bytes ({late / early:.3f} of it)")


if __name__ == "__main__":
    main()
