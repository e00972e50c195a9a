"""python -m train.pretrain: a small BLOOM from plain text, on one CPU, one GPU or many (torchrun).

Resumable after a kill at any moment: state is written atomically every `--save-seconds`, and the
data order is a pure function of seed and step (`corpus.py`). Knows nothing of LoRA or chat.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from train.config import BadInput, parse_settings, positive, setting, share


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


def rate(step: int, s: PretrainSettings) -> float:
    """Share of the peak rate at a step: warm up, stay, fall linearly to 2%."""
    decay_from = s.max_steps * (1 - s.decay_share)
    if step < s.warmup_steps:
        return (step + 1) / s.warmup_steps
    if step < decay_from:
        return 1.0
    return 1.0 - 0.98 * (step - decay_from) / max(1.0, s.max_steps - decay_from)


def new_tokenizer(corpus: Path, s: PretrainSettings):
    """Byte-level BPE of BLOOM's kind with its special ids 0 to 3, and the two chat markers on top."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    from train.corpus import documents

    tok = Tokenizer(models.BPE())
    # Whole runs of Han: cut into pieces, a phrase would be other tokens wherever it stands.
    pattern = r"[\r\n]+|\p{Han}+|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+|\s+"
    tok.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(pattern), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tok.decoder = decoders.ByteLevel()
    special = ["<unk>", "<s>", "</s>", "<pad>"]
    texts = (t for p in sorted(corpus.glob("*.jsonl")) for t in documents(p))
    tok.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=s.vocab_size, special_tokens=special, max_token_length=12, limit_alphabet=256,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    fast = PreTrainedTokenizerFast(tokenizer_object=tok, unk_token="<unk>", bos_token="<s>", eos_token="</s>",
                                   pad_token="<pad>", padding_side="left", model_max_length=2048)
    fast.add_special_tokens({"extra_special_tokens": ["<|beginofutterance|>", "<|endofutterance|>"]})
    return fast


def load(s: PretrainSettings):
    """(model, tokenizer), trained on from `--base` or made anew."""
    import torch
    from transformers import AutoTokenizer, BloomConfig, BloomForCausalLM

    torch.manual_seed(s.seed)
    if s.base:
        if not (Path(s.base) / "config.json").is_file():
            raise BadInput(f"--base {s.base}: no config.json there; give a BLOOM model directory")
        return (BloomForCausalLM.from_pretrained(s.base, dtype=torch.float32, local_files_only=True),
                AutoTokenizer.from_pretrained(s.base, local_files_only=True))
    tokenizer = new_tokenizer(Path(s.corpus), s)
    config = BloomConfig(vocab_size=len(tokenizer) - 2 + 64, hidden_size=s.hidden_size, n_layer=s.n_layer,
                         n_head=s.n_head, hidden_dropout=0.0, attention_dropout=0.0,
                         bos_token_id=1, eos_token_id=2, pad_token_id=3)
    return BloomForCausalLM(config), tokenizer


def optimizers(model, s: PretrainSettings) -> list:
    import torch

    from train.muon import Muon

    hidden = [p for n, p in model.named_parameters() if p.ndim == 2 and "word_embeddings.weight" not in n]
    rest = [p for n, p in model.named_parameters() if p.ndim != 2 or "word_embeddings.weight" in n]
    return [Muon(hidden, lr=s.muon_lr), torch.optim.AdamW(rest, lr=s.adam_lr, betas=(0.9, 0.95), weight_decay=0.0)]


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


def write_model(model, tokenizer, record: dict, output: Path) -> None:
    """fp16 weights, tokenizer and `training.json` into `output`. The model is left as it was."""
    import copy

    import torch

    half = copy.deepcopy(model).to(torch.float16)
    half.save_pretrained(output)
    tokenizer.save_pretrained(output)
    (output / "training.json").write_text(json.dumps(record, ensure_ascii=False, indent=1), encoding="utf-8")


def pretrain(s: PretrainSettings) -> None:
    """Run to `max_steps`, going on from a saved state where there is one."""
    import torch
    from accelerate import Accelerator
    from tqdm import tqdm

    from train.corpus import load_streams, windows

    dtype = s.dtype if s.dtype != "auto" else ("bfloat16" if bf16_is_fast(torch) else "float32")
    accelerator = Accelerator(mixed_precision="bf16" if dtype == "bfloat16" else "no", cpu=s.device == "cpu")
    output = Path(s.output)
    model, tokenizer = load(s)
    model.config.use_cache = False
    opts = optimizers(model, s)
    with accelerator.main_process_first():
        streams = load_streams(Path(s.corpus), Path(s.prose) if s.prose else None, s.prose_share,
                               tokenizer.backend_tokenizer, tokenizer.eos_token_id, s.window, s.seed,
                               output / "tokens")
    state = State(output / "state" / "latest.pt", model, opts)
    start = state.load()
    net, *opts = accelerator.prepare(model, *opts)
    forward = torch.compile(net, dynamic=False) if s.compile else net
    mine = range(s.batch)[accelerator.process_index::accelerator.num_processes]

    def loss_on(rows: range, step: int, heldout: bool = False):
        ids = torch.from_numpy(windows(streams, rows, step, s.window, s.seed, heldout)).to(accelerator.device)
        with accelerator.autocast():
            return forward(input_ids=ids, labels=ids).loss

    def heldout_loss() -> float:
        with torch.no_grad():
            total = sum(loss_on(mine, k, heldout=True).detach() for k in range(4)) / 4
        return accelerator.reduce(total, "mean").item()

    bar = tqdm(range(start, s.max_steps), initial=start, total=s.max_steps, unit="step", file=sys.stderr,
               disable=not accelerator.is_main_process, mininterval=5)
    began, smooth, held = time.monotonic(), None, None
    log = (output / "log.jsonl").open("a", encoding="utf-8") if accelerator.is_main_process else None
    for step in bar:
        for opt, peak in zip(opts, (s.muon_lr, s.adam_lr), strict=True):
            for group in opt.param_groups:
                group["lr"] = peak * rate(step, s)
        loss = loss_on(mine, step)
        accelerator.backward(loss)
        for opt in opts:
            opt.step()
            opt.zero_grad()
        value = loss.item()
        smooth = value if smooth is None else 0.98 * smooth + 0.02 * value
        speed = (step + 1 - start) * s.batch * s.window / (time.monotonic() - began)
        last = step + 1 == s.max_steps
        if last or (step + 1) % s.eval_steps == 0:
            held = heldout_loss()
        bar.set_postfix(loss=f"{smooth:.3f}", heldout=held and f"{held:.3f}", tokens_s=f"{speed:.0f}", refresh=False)
        if log and (last or (step + 1) % 25 == 0):
            log.write(json.dumps({"step": step + 1, "loss": round(smooth, 4), "heldout": held,
                                  "tokens_per_second": round(speed)}) + "\n")
            log.flush()
        if accelerator.is_main_process and (last or time.monotonic() - state.saved_at > s.save_seconds):
            state.save(step + 1)
    if accelerator.is_main_process:
        corpus_sha = hashlib.sha256(b"".join(x.tokens.tobytes() for x in streams)).hexdigest()
        write_model(model, tokenizer, {
            "settings": {k: v for k, v in dataclasses.asdict(s).items() if k not in ("output", "base", "corpus")},
            "trained_on": Path(s.base).name if s.base else None, "dtype": dtype, "parameters": model.num_parameters(),
            "tokens": s.max_steps * s.batch * s.window, "loss": smooth, "heldout_loss": held,
            "shares": {x.name: round(x.share, 4) for x in streams}, "corpus_tokens_sha256": corpus_sha}, output)
        print(f"base model written to {output}", file=sys.stderr)
    accelerator.wait_for_everyone()
    if accelerator.num_processes > 1:
        torch.distributed.destroy_process_group()


def main() -> int:
    s = parse_settings(PretrainSettings, "python -m train.pretrain", __doc__.splitlines()[0])
    try:
        pretrain(s)
    except BadInput as err:
        print(f"error: {err}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"interrupted; run the same command again to go on from {s.output}/state", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
