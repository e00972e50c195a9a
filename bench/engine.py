"""The engine against what people do today, as ratios: python -m bench.engine [--shape embedded|wide] [--rounds 5]

`embedded`: the shipped pair. `wide`: a random BLOOM of 8 layers, 512 wide, with BLOOM's 250,880-word vocabulary
and a random adapter. Every ratio's two sides run in turn in one process, `--rounds` times; medians are compared.
Prints a Markdown table and, with `--output`, writes the figures as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import torch

from compare.engine import BASE, Engine, Variant
from compare.questions import Question
from compare.sampling import Sampling
from compare.settings import EMBEDDED_ADAPTER, EMBEDDED_BASE

QUESTION = "哈尔滨工业大学的校训是什么？"
HELDOUT = Path(EMBEDDED_BASE).parent / "hit_qa" / "heldout.jsonl"
TOKENS = 128


def random_pair(folder: Path, adapters: int) -> tuple[str, list[str]]:
    """A random wide BLOOM with the embedded tokenizer, and adapters for it, in `folder`."""
    from peft import LoraConfig, get_peft_model
    from transformers import BloomConfig, BloomForCausalLM

    torch.manual_seed(0)
    config = BloomConfig(vocab_size=250_880, hidden_size=512, n_layer=8, n_head=8, bos_token_id=1, eos_token_id=2,
                         pad_token_id=3, initializer_range=0.1)
    model = BloomForCausalLM(config)
    model.save_pretrained(folder / "base")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(Path(EMBEDDED_BASE) / name, folder / "base")
    lora = LoraConfig(task_type="CAUSAL_LM", r=8, lora_alpha=8, target_modules=["query_key_value"],
                      init_lora_weights=False)
    get_peft_model(model, lora).save_pretrained(folder / "adapter0", save_embedding_layers=False)
    return str(folder / "base"), copies(folder / "adapter0", folder, adapters)


def copies(adapter: Path, folder: Path, count: int) -> list[str]:
    """`count` directories of the same adapter, each of another name, as checkpoints of one run would be."""
    found = []
    for i in range(count):
        to = folder / f"step{i}"
        to.mkdir()
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            shutil.copy(adapter / name, to)
        found.append(str(to))
    return found


def run(engine: Engine, variants: list[Variant], whole: bool = True) -> int:
    """Answer the question under these variants; returns the tokens made. `whole`: nobody ends before 128."""
    engine.batch.eos = -1 if whole else engine.tokenizer.eos_token_id
    columns: list = []
    for columns in engine.compare(QUESTION, variants=variants, sampling=Sampling(TOKENS)):
        pass
    return sum(len(c.token_ids) for c in columns)


def toggled(engine: Engine, whole: bool = True) -> None:
    """Both answers as they are made today: generate() with the adapter off, then on."""
    ids = torch.tensor([engine.prompt.encode(QUESTION)], device=engine.device)
    least = {"min_new_tokens": TOKENS} if whole else {}
    for off in (True, False):
        with torch.inference_mode(), engine.model.disable_adapter() if off else nullcontext():
            engine.model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False,
                                  max_new_tokens=TOKENS, **least)


def sixteen(engine: Engine, at_once: bool) -> None:
    """Base and adapted answers to 16 held-out questions."""
    engine.batch.eos = -1
    rows = [json.loads(line) for line in HELDOUT.read_text(encoding="utf-8").splitlines()[:16]]
    questions = [Question(r["input"], r["instruction"]) for r in rows]
    variants = [BASE, Variant("on", next(iter(engine.adapters)), 1.0)]
    for part in [questions] if at_once else [[q] for q in questions]:
        for _ in engine.answer_all(part, variants, Sampling(TOKENS)):
            pass


def first_token(engine: Engine, prompt: str, variants: list[Variant]) -> None:
    next(engine.compare(prompt, variants=variants, sampling=Sampling(1)))


def forward(engine: Engine, prompt: str, variants: list[Variant]) -> None:
    ids = engine.prompt.encode(prompt)
    engine.logits(engine.states([ids] * len(variants), variants)[:, -1])


def ratios(engine: Engine) -> dict[str, tuple[Callable, Callable, str]]:
    """What is timed against what, and the target."""
    names = list(engine.adapters)
    one, two = [Variant("on", names[0], 1.0)], [BASE, Variant("on", names[0], 1.0)]
    twelve = [Variant(f"{n}@{s}", n, s) for n in names[:4] for s in (0.5, 1.0, 1.5)]
    long = "规格严格，功夫到家。" * 40
    while len(engine.prompt.encode(long)) > 200:
        long = long[:-1]
    return {
        "two columns / one, 128 tokens": (lambda: run(engine, two), lambda: run(engine, one), "≤ 1.15"),
        "both answers / two toggled generate(), 128 tokens": (lambda: run(engine, two), lambda: toggled(engine),
                                                              "≤ 0.4"),
        "the same, ending when they end": (lambda: run(engine, two, False), lambda: toggled(engine, False), "≤ 0.8"),
        "12 columns / two": (lambda: run(engine, twelve), lambda: run(engine, two), "≤ 1.8"),
        "16 questions one by one / at once": (lambda: sixteen(engine, False), lambda: sixteen(engine, True), "≥ 6"),
        "first token / forward, 200-token prompt": (lambda: first_token(engine, long, two),
                                                    lambda: forward(engine, long, two), "≤ 1.3"),
    }


def seconds(call: Callable) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def measure(engine: Engine, rounds: int) -> dict[str, dict]:
    found = {}
    for name, (left, right, target) in ratios(engine).items():
        left(), right()
        pairs = [(seconds(left), seconds(right)) for _ in range(rounds)]
        a, b = (statistics.median(side) for side in zip(*pairs, strict=True))
        found[name] = {"ratio": round(a / b, 3), "target": target, "seconds": [round(a, 4), round(b, 4)]}
        print(f"| {name} | {a / b:.2f} | {target} | {a:.3f} s / {b:.3f} s |", flush=True)
    return found


def memory(base: str, adapter: str) -> None:
    """Child process: peak memory above the loaded engine for two columns of 512 tokens, over a copy's size."""
    engine = Engine(base, adapter)
    engine.batch.eos = -1
    size = sum(p.numel() * p.element_size() for p in engine.model.parameters())
    variants = engine.variants()
    next(engine.compare(QUESTION, variants=variants, sampling=Sampling(1)))  # first use loads kernels
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in engine.compare(QUESTION, variants=variants, sampling=Sampling(512)):
        pass
    print(json.dumps({"share": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / size}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=["embedded", "wide"], default="embedded")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, help="also write the figures as JSON")
    parser.add_argument("--memory", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.memory:
        memory(*args.memory)
        return
    with tempfile.TemporaryDirectory() as folder:
        if args.shape == "wide":
            base, adapters = random_pair(Path(folder), 4)
        else:
            base, adapters = EMBEDDED_BASE, copies(Path(EMBEDDED_ADAPTER), Path(folder), 4)
        print(f"{args.shape}, {torch.get_num_threads()} threads, torch {torch.__version__}\n\n"
              "| | ratio | target | medians |\n| --- | --- | --- | --- |")
        found = measure(Engine(base, adapters), args.rounds)
        child = subprocess.run([sys.executable, "-m", "bench.engine", "--memory", base, adapters[0]],
                               capture_output=True, text=True, check=True, env={**os.environ})
        share = json.loads(child.stdout.splitlines()[-1])["share"]
        print(f"| memory above one copy, two columns of 512 tokens, in copies | {share:.2f} | ≤ 0.2 | |")
    if args.output:
        figures = {"shape": args.shape, **found, "memory": share}
        args.output.write_text(json.dumps(figures, ensure_ascii=False, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
