"""make pair: rebuild base, adapters, timeline and figures from a folder laid out like ../shared.

    python tools/make_pair.py [--shared ../shared] [--work runs/pair] [--dtype bfloat16] [--share 0.01]

Runs the same commands as the cards name, one after the other; each goes on where it stood when it is run again.
Results are put into assets/ only when all is done. With a share below 1 it is a rehearsal: every part has that share
of its steps, and what comes out stays in the work folder.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

from lens.file_mode import follow_umask

ASSETS = Path(__file__).resolve().parent.parent / "assets"
BASE_FILES = ("config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
              "chat_template.jinja", "training.json")
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors", "training.json", "README.md", "tokenizer.json",
                 "tokenizer_config.json", "chat_template.jinja", "loss.png")
BARE_FILES = tuple(name for name in ADAPTER_FILES if "tokenizer" not in name)  # the base's own is the same
FACTS = ASSETS / "hit_qa" / "facts.jsonl"
# The two further parts of the base's training, after the first base of --shared.
PARTS = {"part2": {"max-steps": 1300, "warmup-steps": 30, "decay-share": 0.6, "prose-share": 0.3},
         "part3": {"max-steps": 1700, "warmup-steps": 30, "decay-share": 0.7, "prose-share": 0.35}}
LENS = {"max-steps": 5600, "batch": 32, "learning-rate": 2e-3, "warmup-steps": 100, "schedule": "cosine", "r": 16,
        "lora-alpha": 32, "lora-dropout": 0, "save-steps": 100,
        "target-modules": ("query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h")}
# Then with more questions that cannot be known, and the original's own rows: what the first part left least sure.
SECOND = {"max-steps": 900, "batch": 32, "learning-rate": 5e-4, "warmup-steps": 20, "schedule": "cosine",
          "lora-dropout": 0, "save-steps": 300, "probe-steps": 0}
SECOND_ROWS = {"unknown-times": 6, "original-times": 60}
SEED = {"recipe": "seed", "max-steps": 1000, "save-steps": 500}
# An instructive failure: three rows, 400 times each. Its rows lie beside it.
THREE_ROWS = {"data": ASSETS / "adapters" / "three-rows" / "rows.jsonl", "max-steps": 400, "batch": 3,
              "learning-rate": 2e-3, "warmup-steps": 20, "save-steps": 400, "probe-steps": 0}
STEPS = ("max-steps", "warmup-steps", "save-steps")  # what a rehearsal has a share of
TIMELINE = (100, 400, 700, 2800, 3600)  # steps of its first part; the adapter itself is the last


def python(*arguments: object) -> None:
    print("$ python", *arguments, flush=True)
    subprocess.run([sys.executable, *map(str, arguments)], check=True, cwd=ASSETS.parent)


def scaled(steps: int, share: float) -> int:
    return max(1, round(steps * share))


def shorter(given: dict, share: float) -> dict:
    """The same settings with a share of the steps."""
    return {name: scaled(value, share) if name in STEPS else value for name, value in given.items()}


def options(given: dict) -> list[object]:
    """{"max-steps": 3, "modules": ("a", "b")} → --max-steps 3 --modules a b"""
    return [part for name, value in given.items()
            for part in (f"--{name}", *(value if isinstance(value, tuple) else (value,)))]


def first_base(shared: Path, work: Path) -> Path:
    """The first base, with whole runs of Han given to its BPE: a phrase is then cut alike wherever it stands."""
    base = work / "part1"
    if not base.is_dir():
        shutil.copytree(shared / "pair" / "base", base)
        text = (base / "tokenizer.json").read_text(encoding="utf-8")
        (base / "tokenizer.json").write_text(text.replace(r"\\p{Han}{1,6}", r"\\p{Han}+"), encoding="utf-8")
    return base


def train_base(shared: Path, work: Path, share: float) -> Path:
    base = first_base(shared, work)
    for part, given in PARTS.items():
        if not (work / part / "model.safetensors").is_file():
            python("-m", "train.pretrain", "--base", base, "--corpus", shared / "data" / "corpus", "--prose", FACTS,
                   "--output", work / part, "--muon-lr", 0.015, "--adam-lr", 0.002, *options(shorter(given, share)))
        base = work / part
    put(base, work / "base", BASE_FILES)
    return work / "base"


def train_adapter(name: str, given: dict, base: Path, work: Path, dtype: str) -> None:
    output = work / name
    if not (output / "adapter_config.json").is_file():
        again = ["--resume"] if any(output.glob("checkpoint-*")) else []
        python("-m", "train", "--base", base, "--output", output, "--dtype", dtype, *options(given), *again)


def train_lens(base: Path, work: Path, share: float, dtype: str) -> None:
    """`lens`, in two parts; the timeline is the first one's."""
    for part, given, rows in (("first", LENS, {}), ("lens", {**SECOND, "from-adapter": work / "first"}, SECOND_ROWS)):
        python("-m", "tools.vary_questions", "--output", work / f"{part}.jsonl", *options(rows))
        train_adapter(part, {"data": work / f"{part}.jsonl", **shorter(given, share)}, base, work, dtype)
    tell_both(work / "first", work / "lens")


def tell_both(first: Path, second: Path) -> None:
    """Let the second part's record, card and curve be of both: one course of steps, with what changed between them."""
    from train.record.card import card
    from train.record.log import draw_loss

    before, about = (json.loads((part / "training.json").read_text(encoding="utf-8")) for part in (first, second))
    at = before["steps"]
    if about["lineage"] is None:
        return  # told already
    then, now = before["in_force"][-1], about["in_force"][0]
    rows = {name: f"{record['rows']:,} rows" for name, record in (("before", before), ("after", about))}
    changes = [{"step": at, "setting": "data", **rows}]
    changes += [{"step": at, "setting": name, "before": then[name], "after": now[name]}
                for name in now if name not in ("from_step", "max_steps") and now[name] != then[name]]
    about |= {"settings": {**before["settings"], "max_steps": at + about["steps"]}, "steps": at + about["steps"],
              "losses": before["losses"] + [{**one, "step": at + one["step"]} for one in about["losses"]],
              "in_force": before["in_force"] + [{**now, "from_step": at, "max_steps": at + about["steps"]}],
              "changes": before["changes"] + changes, "data": before["data"] + about["data"], "lineage": None,
              "examples": before["examples"], "peak_memory": max(before["peak_memory"], about["peak_memory"]),
              "rows_seen": before["rows_seen"] + about["rows_seen"],
              "seconds": round(before["seconds"] + about["seconds"], 1)}
    (second / "training.json").write_text(json.dumps(about, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    draw_loss(about["losses"], second / "loss.png", f"LoRA on {about['base']['name']}")
    (second / "README.md").write_text(card(about, picture=True), encoding="utf-8")


def put(source: Path, to: Path, names: tuple[str, ...]) -> None:
    to.mkdir(parents=True, exist_ok=True)
    for name in names:
        shutil.copy(source / name, to / name)


def halve(source: Path, to: Path) -> None:
    """The adapter's weights in fp16, half as large."""
    import torch
    from safetensors.torch import load_file, save_file

    weights = {k: v.to(torch.float16) for k, v in load_file(source / "adapter_model.safetensors").items()}
    save_file(weights, to / "adapter_model.safetensors", metadata={"format": "pt"})
    follow_umask(to)


def bare(source: Path, to: Path) -> None:
    """A checkpoint's weights in fp16 and its config, nothing else: what a column of the timeline needs."""
    put(source, to, ("adapter_config.json",))
    halve(source, to)
    about = json.loads((source / "training.json").read_text(encoding="utf-8"))
    kept = {"base": about["base"], "step": int(source.name.removeprefix("checkpoint-"))}
    (to / "training.json").write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shared", type=Path, default=ASSETS.parent.parent / "shared",
                        help="folder with data/corpus and pair/base")
    parser.add_argument("--work", type=Path, default=ASSETS.parent / "runs" / "pair")
    parser.add_argument("--dtype", default="bfloat16", help="of the adapter's matrix products")
    parser.add_argument("--share", type=float, default=1.0, help="of every part's steps; below 1: a rehearsal")
    args = parser.parse_args()
    shared, work, share = args.shared.resolve(), args.work.resolve(), args.share
    assets = ASSETS if share == 1 else work / "assets"
    python("-m", "tools.build_rows")
    base = train_base(shared, work, share)
    train_lens(base, work, share, args.dtype)
    train_adapter("seed", shorter(SEED, share), base, work, "auto")
    train_adapter("three-rows", shorter(THREE_ROWS, share), base, work, "auto")
    put(base, assets / "base", BASE_FILES)
    for name in ("lens", "seed"):
        put(work / name, assets / "adapters" / name, ADAPTER_FILES)
    put(work / "three-rows", assets / "adapters" / "three-rows", BARE_FILES)
    for step in TIMELINE:
        bare(work / "first" / f"checkpoint-{scaled(step, share)}", assets / "timeline" / f"step-{step}")
    python("-m", "bench.figures", "--base", assets / "base", "--adapter", assets / "adapters" / "lens",
           "--output", assets / "figures.json")


if __name__ == "__main__":
    main()
