"""Training speed and memory against what people do today: python -m bench.train

Each measurement is a child process of its own (so that peaks do not mix), contestants take turns (so that
a busy machine is busy for all), and the table gives medians over the rounds. The model is random: speed
and memory do not depend on what it knows. Contestants:

    lens             train.trainer with the loss gathered before lm_head, rows grouped by length
    trainer          transformers' Trainer as it comes: full logits, random order
    trainer-grouped  the same with rows grouped by length
    trl              TRL's SFTTrainer on the same ids and labels, its chunked loss; where trl is installed
    seed             the original recipe: batch 1, loss on the whole text, full logits
    against          lens as another checkout has it, --against DIR, by that one's own bench.train

Rows: `hit_qa` are assets/hit_qa/train.jsonl; `long` have long answers as HC3-Chinese does, made here from
the prose of assets/hit_qa/facts.jsonl, because HC3 itself is not shipped.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence

from bench.shared.peak import forget_peak, peak
from lens.embedded import EMBEDDED_BASE
from tools.build_rows import read

CONTESTANTS = ("lens", "trainer", "trainer-grouped", "trl", "seed")
SHAPES = {"tiny": {"hidden_size": 32, "n_layer": 2, "n_head": 4},  # to try the script itself
          "small": {"hidden_size": 512, "n_layer": 8, "n_head": 8},
          "bloom-1b1": {"hidden_size": 1536, "n_layer": 24, "n_head": 16}}
VOCABULARY, WARM_UP = 250_880, 2
LONG_ANSWER, LONGEST = 450, 512  # characters; tokens a row is cut to


def make_rows(kind: str, count: int):
    """`count` rows of a kind, the same for every contestant."""
    from lens.rows.rows import Row

    rng = random.Random(0)
    found = rng.choices(read("train.jsonl"), k=count)
    if kind == "hit_qa":
        return [Row(r["instruction"], r["input"], r["output"], "bench") for r in found]
    prose = [sentence for fact in read("facts.jsonl") for sentence in fact["prose"]]
    rows = []
    for r in found:
        answer = ""
        while len(answer) < rng.uniform(0.5, 1.5) * LONG_ANSWER:
            answer += rng.choice(prose)
        rows.append(Row("", r["input"], answer, "bench"))
    return rows


class Clock:
    """Made into a callback: seconds of the steps after the warm-up."""

    def __init__(self, device: str):
        self.device, self.seconds, self.began = device, [], 0.0

    def now(self) -> float:
        if self.device == "cuda":
            import torch

            torch.cuda.synchronize()
        return time.perf_counter()

    def callback(clock):
        from transformers import TrainerCallback

        class Timer(TrainerCallback):
            def on_step_begin(self, *_, **__):
                clock.began = clock.now()

            def on_step_end(self, *_, **__):
                clock.seconds.append(clock.now() - clock.began)

        return Timer()


def reset_peak(device: str) -> int:
    """Forget the peak so far; returns bytes in use now."""
    if device == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    if not (now := forget_peak()):
        raise RuntimeError("the system does not say what memory a process holds; Linux does")
    return now


def peak_since(device: str) -> int:
    """Bytes: the most that was in use since `reset_peak`."""
    if device == "cuda":
        import torch

        return torch.cuda.max_memory_allocated()
    return peak()


def build(args):
    """The random model with LoRA, its device and dtype as asked."""
    import torch
    from transformers import BloomConfig, BloomForCausalLM

    from train.lora import attach_lora
    from train.loss import teach_answers_only

    torch.manual_seed(0)
    with torch.device(args.device):
        model = BloomForCausalLM(BloomConfig(vocab_size=VOCABULARY, bos_token_id=1, eos_token_id=2, pad_token_id=3,
                                             use_cache=False, **SHAPES[args.shape]))
    if args.child == "lens":
        model.to(getattr(torch, args.dtype))  # as `python -m train` loads it; the others cast float32 as they go
        teach_answers_only(model)
    return attach_lora(model, r=8, lora_alpha=8, lora_dropout=0.05, target_modules=["query_key_value"])


def make_trainer(args, model, tokenizer, rows: Sequence[dict], batch: int):
    """The contestant's own trainer over the same encoded rows."""
    from transformers import Trainer, TrainingArguments

    from train.trainer import AdapterTrainer, Collator

    common = {"output_dir": args.scratch, "max_steps": args.steps + WARM_UP, "per_device_train_batch_size": batch,
              "save_strategy": "no", "report_to": "none", "remove_unused_columns": False, "logging_steps": 10_000,
              "use_cpu": args.device == "cpu", "bf16": args.dtype == "bfloat16", "disable_tqdm": True,
              "dataloader_pin_memory": args.device == "cuda"}
    if args.child == "trl":
        from datasets import Dataset
        from trl import SFTConfig, SFTTrainer

        return SFTTrainer(model=model, processing_class=tokenizer, train_dataset=Dataset.from_list(list(rows)),
                          args=SFTConfig(**{**common, "remove_unused_columns": True, "loss_type": "chunked_nll",
                                            "max_length": LONGEST}))
    grouped = "random" if args.child in ("trainer", "seed") else "group_by_length"
    kind, extra = Trainer, {}
    if args.child == "lens":
        kind, extra = AdapterTrainer, {"write_adapter": None, "keep": 0}
        common["accelerator_config"] = {"non_blocking": args.device == "cuda"}  # as `python -m train` copies batches
    return kind(model=model, args=TrainingArguments(**common, train_sampling_strategy=grouped), train_dataset=rows,
                data_collator=Collator(tokenizer.pad_token_id), **extra)


def measure(args) -> dict:
    """One contestant once, in this process: rows/s, peak bytes above the model, useful FLOP/s."""
    import torch
    from transformers import AutoTokenizer

    from train.data.encoding import encode_rows

    torch.set_num_threads(args.threads or torch.get_num_threads())
    tokenizer = AutoTokenizer.from_pretrained(EMBEDDED_BASE)
    batch = 1 if args.child == "seed" else args.batch
    rows = make_rows(args.rows, args.batch * (args.steps + WARM_UP) * 4)
    rows = encode_rows(rows, tokenizer, LONGEST, whole_text=args.child == "seed")
    model = build(args)
    clock, trainer = Clock(args.device), make_trainer(args, model, tokenizer, rows, batch)
    trainer.add_callback(clock.callback())
    before = reset_peak(args.device)
    trainer.train()
    seconds = sum(clock.seconds[WARM_UP:])
    return {"rows_per_second": batch * args.steps / seconds, "peak": peak_since(args.device) - before,
            "flops_per_second": flops_a_row(args, rows) * batch * args.steps / seconds}


def flops_a_row(args, rows: Sequence[dict]) -> float:
    """Useful operations: 2 a weight and token forward, 2 backward (a frozen weight needs no gradient of its own);
    the head on taught positions alone. Recomputed and padded work does not count."""
    hidden, layers = SHAPES[args.shape]["hidden_size"], SHAPES[args.shape]["n_layer"]
    tokens = statistics.mean(len(row["input_ids"]) for row in rows)
    taught = statistics.mean(sum(label != -100 for label in row["labels"]) for row in rows)
    return 4 * (tokens * layers * 12 * hidden**2 + taught * VOCABULARY * hidden)


def run_child(args, contestant: str, rows: str) -> dict:
    other = args.against if contestant == "against" else None
    command = [sys.executable, "-m", "bench.train", "--child", "lens" if other else contestant,
               "--rows", rows, "--shape", args.shape,
               "--batch", args.batch, "--steps", args.steps, "--device", args.device, "--dtype", args.dtype,
               "--threads", args.threads, "--scratch", args.scratch]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=other)
    if done.returncode:
        sys.exit(f"error: {contestant} on {rows} failed:\n{done.stderr[-2000:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    print(f"{contestant} on {rows}: {found['rows_per_second']:.2f} rows/s, {found['peak'] / 1e6:,.0f} MB",
          file=sys.stderr, flush=True)
    return found


def table(args, found: dict[tuple[str, str], list[dict]]) -> str:
    """Markdown: medians, and the ratios to lens."""
    def median(key: tuple[str, str], what: str) -> float:
        return statistics.median(one[what] for one in found[key])

    lines = ["| rows | contestant | rows/s | lens is faster | peak above the model | lens needs | of peak FLOP/s |",
             "| --- | --- | --- | --- | --- | --- | --- |"]
    for rows, contestant in found:
        speed, memory = median((rows, contestant), "rows_per_second"), median((rows, contestant), "peak")
        ours_speed, ours_memory = median((rows, "lens"), "rows_per_second"), median((rows, "lens"), "peak")
        share = median((rows, contestant), "flops_per_second") / args.peak_tflops / 1e12 if args.peak_tflops else None
        lines.append(f"| {rows} | {contestant} | {speed:.2f} | {ours_speed / speed:.2f} × | {memory / 1e6:,.0f} MB | "
                     f"{ours_memory / memory:.2f} of it | {'–' if share is None else f'{share:.1%}'} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--contestants", nargs="+", default=["lens", "trainer", "trainer-grouped", "trl"],
                        choices=CONTESTANTS)
    parser.add_argument("--data", nargs="+", default=["hit_qa", "long"], choices=("hit_qa", "long"))
    parser.add_argument("--against", metavar="DIR", help="another checkout, to be a contestant beside lens")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=8, help=f"measured steps a round, after {WARM_UP} to warm up")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--shape", choices=SHAPES, default="small")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--threads", type=int, default=0, help="of torch; 0: its own choice")
    parser.add_argument("--peak-tflops", type=float, default=0, help="of the card in this dtype, for the last column")
    parser.add_argument("--scratch", default="/tmp/bench-train")
    parser.add_argument("--child", choices=CONTESTANTS, help=argparse.SUPPRESS)
    parser.add_argument("--rows", choices=("hit_qa", "long"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(measure(args)))
        return
    if "trl" in args.contestants and importlib.util.find_spec("trl") is None:
        args.contestants.remove("trl")
        print("trl is not installed, so it is left out", file=sys.stderr)
    if args.against:
        args.contestants.append("against")
    found: dict[tuple[str, str], list[dict]] = {(r, c): [] for r in args.data for c in args.contestants}
    for _ in range(args.rounds):
        for rows, contestant in found:
            found[rows, contestant].append(run_child(args, contestant, rows))
    print(table(args, found))


if __name__ == "__main__":
    main()
