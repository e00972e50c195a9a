"""python -m train.pretrain: a small BLOOM from plain text, on one CPU, one GPU or many (torchrun).

Resumable after a kill at any moment: state is written atomically every `--save-seconds`, and the
data order is a pure function of seed and step (`corpus.py`).
"""

from __future__ import annotations

import dataclasses
import hashlib
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lens.cli import command, interruptible, say
from lens.declared_settings import parse_settings, positive, setting, share
from lens.file_mode import follow_umask
from lens.processes import part_together
from lens.strict_json import dumps
from train.settings import at_least_0

LOG_STEPS = 25


@dataclass
class PretrainSettings:
    corpus: str = setting("../shared/data/corpus", "folder of .jsonl (field text) and .txt files")
    prose: str = setting("assets/hit_qa/facts.jsonl", "rows whose `prose` sentences are mixed in; '' for none")
    prose_share: float = setting(0.2, "share of windows from --prose", "0 to 1", share, "0 to 1")
    output: str = setting("runs/base", "directory of the model and of the state to resume from")
    base: str = setting("", "model directory to train on from; '' starts anew with a new tokenizer")
    hidden_size: int = setting(256, "width of a new model", "features", positive, "above 0")
    n_layer: int = setting(6, "layers of a new model", "", positive, "above 0")
    n_head: int = setting(8, "attention heads of a new model", "", positive, "above 0")
    vocab_size: int = setting(8000, "tokens of a new tokenizer; 64 spare embedding rows are added", "tokens",
                              positive, "above 0")
    max_steps: int = setting(4000, "steps", "", positive, "above 0")
    batch: int = setting(16, "windows a step over all processes", "windows", positive, "above 0")
    window: int = setting(256, "length of a window", "tokens", positive, "above 0")
    muon_lr: float = setting(0.02, "learning rate of the hidden matrices (Muon)", "", positive, "above 0")
    adam_lr: float = setting(3e-3, "learning rate of all else (AdamW)", "", positive, "above 0")
    weight_decay: float = setting(0.0, "of all weights, each step times the learning rate", "", at_least_0, "0 or more")
    dropout: float = setting(0.0, "of hidden states and attention, while training", "0 to 1", share, "0 to 1")
    warmup_steps: int = setting(100, "steps of linear warm-up", "steps")
    decay_share: float = setting(0.4, "last share of the steps, over which the rates fall linearly to 2%",
                                 "0 to 1", share, "0 to 1")
    save_seconds: float = setting(45.0, "time between saved states", "seconds", positive, "above 0")
    eval_steps: int = setting(250, "steps between held-out losses", "steps", positive, "above 0")
    compile: bool = setting(True, "torch.compile: about a minute at the start, then a third faster")
    dtype: Literal["auto", "float32", "bfloat16"] = setting(
        "auto", "of matrix products; auto: bfloat16 where the processor is fast at it")
    device: Literal["auto", "cpu"] = setting("auto", "cpu to keep off a GPU")
    seed: int = setting(0, "of weights and data order")


def bf16_is_fast(torch) -> bool:
    """Time one product each way: on processors without bf16 units it is up to 150 times slower."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)

    def seconds(dtype) -> float:
        a, b = torch.randn(256, 256, dtype=dtype), torch.randn(256, 1024, dtype=dtype)
        a @ b
        start = time.perf_counter()
        for _ in range(10):
            a @ b
        return time.perf_counter() - start

    return seconds(torch.bfloat16) < seconds(torch.float32)


def set_dropout(model, rate: float) -> None:
    """Give every layer of a BLOOM this rate while it trains; its config, which is saved, keeps its own."""
    import torch

    for module in model.modules():
        for name in ("hidden_dropout", "attention_dropout"):
            if isinstance(found := getattr(module, name, None), torch.nn.Dropout):
                found.p = rate
            elif found is not None:
                setattr(module, name, rate)


def write_model(model, tokenizer, record: dict, output: Path) -> None:
    """fp16 weights, tokenizer and `training.json` into `output`. The model is left as it was."""
    import copy

    import torch

    half = copy.deepcopy(model).to(torch.float16)
    half.config.use_cache = half.generation_config.use_cache = True  # off for training alone
    half.save_pretrained(output)
    follow_umask(output)
    tokenizer.save_pretrained(output)
    (output / "training.json").write_text(dumps(record, indent=1), encoding="utf-8")


class State:
    """What a run needs to go on: weights, both optimizers, step. One file, replaced atomically."""

    def __init__(self, path: Path, model, opts: list):
        self.path, self.model, self.opts, self.saved_at = path, model, opts, time.monotonic()

    def save(self, step: int) -> None:
        import torch

        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_suffix(".part")
        torch.save({"step": step, "model": self.model.state_dict(),
                    "opts": [o.state_dict() for o in self.opts]}, part)
        part.replace(self.path)
        self.saved_at = time.monotonic()

    def load(self) -> int:
        """The step to go on from; 0 when nothing was saved. The file is our own, and never unpickled."""
        import torch

        if not self.path.is_file():
            return 0
        kept = torch.load(self.path, weights_only=True, map_location="cpu")
        self.model.load_state_dict(kept["model"])
        for opt, state in zip(self.opts, kept["opts"], strict=True):
            opt.load_state_dict(state)
        return kept["step"]


class Run:
    """Everything a step needs, set up once: model, optimizers, data, saved state."""

    def __init__(self, s: PretrainSettings):
        import torch
        from accelerate import Accelerator

        from train.pretraining.corpus import load_streams
        from train.pretraining.new_base import load
        from train.pretraining.optimizers import optimizers

        self.s, self.output = s, Path(s.output)
        self.dtype = s.dtype if s.dtype != "auto" else ("bfloat16" if bf16_is_fast(torch) else "float32")
        self.accelerator = Accelerator(mixed_precision="bf16" if self.dtype == "bfloat16" else "no",
                                       cpu=s.device == "cpu")
        self.model, self.tokenizer = load(s)
        self.model.config.use_cache = False
        set_dropout(self.model.train(), s.dropout)
        opts = optimizers(self.model, s)
        with self.accelerator.main_process_first():
            self.streams = load_streams(Path(s.corpus), Path(s.prose) if s.prose else None, s.prose_share,
                                        self.tokenizer.backend_tokenizer, self.tokenizer.eos_token_id, s.window,
                                        s.seed, self.output / "tokens")
        self.state = State(self.output / "state" / "latest.pt", self.model, opts)
        self.start = self.state.load()
        net, *self.opts = self.accelerator.prepare(self.model, *opts)
        self.forward = torch.compile(net, dynamic=False) if s.compile else net
        self.mine = range(s.batch)[self.accelerator.process_index::self.accelerator.num_processes]
        self.loss: float | None = None  # smoothed
        self.heldout: float | None = None

    @property
    def main(self) -> bool:
        return self.accelerator.is_main_process

    def loss_on(self, step: int, heldout: bool = False):
        import torch

        from train.pretraining.corpus import windows

        ids = torch.from_numpy(windows(self.streams, self.mine, step, self.s.window, self.s.seed, heldout))
        ids = ids.to(self.accelerator.device)
        with self.accelerator.autocast():
            return self.forward(input_ids=ids, labels=ids).loss

    def step(self, step: int) -> None:
        """One update. Dropout's masks are a function of seed and step, as the order of windows is."""
        import torch

        from train.pretraining.optimizers import rate

        torch.manual_seed((self.s.seed * 100_003 + step) * 1_009 + self.accelerator.process_index)
        for opt, peak in zip(self.opts, (self.s.muon_lr, self.s.adam_lr), strict=True):
            for group in opt.param_groups:
                group["lr"] = peak * rate(step, self.s)
        loss = self.loss_on(step)
        self.accelerator.backward(loss)
        for opt in self.opts:
            opt.step()
            opt.zero_grad()
        value = loss.item()
        self.loss = value if self.loss is None else 0.98 * self.loss + 0.02 * value

    def look_at_heldout(self) -> None:
        import torch

        self.model.train(not self.s.dropout)  # changed only where it matters: torch.compile compiles each mode
        with torch.no_grad():
            total = sum(self.loss_on(k, heldout=True).detach() for k in range(4)) / 4
        self.model.train()
        self.heldout = self.accelerator.reduce(total, "mean").item()

    def record(self) -> dict:
        """`training.json` of the finished base."""
        hidden = ("output", "base", "corpus", "prose")  # paths of the machine it ran on
        corpus = hashlib.sha256(b"".join(x.tokens.tobytes() for x in self.streams)).hexdigest()
        return {"settings": {k: v for k, v in dataclasses.asdict(self.s).items() if k not in hidden},
                "trained_on": Path(self.s.base).name if self.s.base else None, "dtype": self.dtype,
                "parameters": self.model.num_parameters(), "tokens": self.s.max_steps * self.s.batch * self.s.window,
                "loss": self.loss, "heldout_loss": self.heldout,
                "shares": {x.name: round(x.share, 4) for x in self.streams}, "corpus_tokens_sha256": corpus}


def pretrain(s: PretrainSettings) -> None:
    """Run to `max_steps`, going on from a saved state where there is one."""
    from tqdm import tqdm

    from train.record.log import append

    run = Run(s)
    bar = tqdm(range(run.start, s.max_steps), initial=run.start, total=s.max_steps, unit="step", file=sys.stderr,
               disable=not run.main, mininterval=5)
    began = time.monotonic()
    for step in bar:
        run.step(step)
        done, last = step + 1, step + 1 == s.max_steps
        speed = (done - run.start) * s.batch * s.window / (time.monotonic() - began)
        if last or done % s.eval_steps == 0:
            run.look_at_heldout()
        bar.set_postfix(loss=f"{run.loss:.3f}", heldout=run.heldout and f"{run.heldout:.3f}",
                        tokens_s=f"{speed:.0f}", refresh=False)
        if run.main and (last or done % LOG_STEPS == 0):
            append(run.output / "log.jsonl", {"step": done, "loss": round(run.loss or 0.0, 4),
                                              "heldout": run.heldout, "tokens_per_second": round(speed)})
        if run.main and (last or time.monotonic() - run.state.saved_at > s.save_seconds):
            run.state.save(done)
    if run.main:
        write_model(run.model, run.tokenizer, run.record(), run.output)
        say(f"base model written to {run.output}")
    part_together()


@command
def main(argv: list[str] | None = None) -> int:
    s = parse_settings(PretrainSettings, "python -m train.pretrain", __doc__.splitlines()[0], argv)
    with interruptible(f"interrupted; run the same command again to go on from {s.output}/state"):
        pretrain(s)
    return 0


if __name__ == "__main__":
    sys.exit(main())
