"""One training run: base + rows → adapter directory, by transformers' Trainer.

Knows nothing of generation or of the page. Raises BadInput for what the user can mend.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import json
import os
import shutil
import sys
import time
from pathlib import Path

from train.card import write_card
from train.config import BadInput
from train.lora import attach_lora, check_target_modules, count_parameters
from train.rows import IGNORED, Row, encode_row, read_rows
from train.settings import EMBEDDED_BASE, TrainSettings

PARTS = ("adapter_model.safetensors", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja",
         "training.json", "README.md", "adapter_config.json")  # written in this order: the config last


def check_paths(s: TrainSettings) -> None:
    """All that can be refused before a model is loaded."""
    if not s.output:
        raise BadInput("--output is missing; name the adapter directory to write")
    out = Path(s.output)
    if out.is_file():
        raise BadInput(f"--output {out} is a file; name a new directory")
    if out.is_dir() and any(out.iterdir()) and not s.resume:
        raise BadInput(f"--output {out} is not empty; name a new directory, or add --resume to go on in it")
    if s.resume and not any(out.glob("checkpoint-*")):
        raise BadInput(f"--resume: no checkpoint-N in {out}; leave --resume out to start there")
    check_target_modules(s.target_modules)


def pick_device(s: TrainSettings) -> tuple[str, str]:
    """(device, dtype name) as the settings and this machine allow."""
    import torch

    if s.device == "cuda" and not torch.cuda.is_available():
        raise BadInput("--device cuda: no CUDA GPU is visible; allowed here: cpu, auto")
    device = "cuda" if s.device != "cpu" and torch.cuda.is_available() else "cpu"
    if s.dtype != "auto":
        return device, s.dtype
    if device == "cpu":
        return device, "float32"
    return device, "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"


def load_tokenizer(name: str):
    """The tokenizer of a BLOOM directory or hub name, with the chat markers (in spare rows) and our template.

    Raises BadInput where there is no BLOOM; nothing large has been read by then.
    """
    from transformers import AutoConfig, AutoTokenizer

    if Path(name).exists() and not (Path(name) / "config.json").is_file():
        raise BadInput(f"--base {name}: no config.json there; give a BLOOM model directory")
    try:
        kind = AutoConfig.from_pretrained(name).model_type
        tokenizer = AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as err:
        raise BadInput(f"--base {name} cannot be loaded: {str(err).splitlines()[0]}") from err
    if kind != "bloom":
        raise BadInput(f"--base {name} is a {kind!r} model; allowed: bloom")
    markers = ["<|beginofutterance|>", "<|endofutterance|>"]
    if any(tokenizer.convert_tokens_to_ids(m) in (None, tokenizer.unk_token_id) for m in markers):
        tokenizer.add_special_tokens({"extra_special_tokens": markers})
    if not tokenizer.chat_template:
        tokenizer.chat_template = (Path(EMBEDDED_BASE) / "chat_template.jinja").read_text(encoding="utf-8")
    return tokenizer


def load_base(name: str):
    """The model in float32; safetensors only. Raises BadInput."""
    import torch
    from transformers import AutoModelForCausalLM

    try:
        return AutoModelForCausalLM.from_pretrained(name, dtype=torch.float32, use_safetensors=True)
    except (OSError, ValueError) as err:
        raise BadInput(f"--base {name} cannot be loaded: {str(err).splitlines()[0]}") from err


class Collator:
    """Pads a list of encoded rows on the right to (rows, longest) tensors."""

    def __init__(self, pad_id: int):
        self.fill = {"input_ids": pad_id, "labels": IGNORED, "attention_mask": 0}

    def __call__(self, rows: list[dict]) -> dict:
        import torch

        longest = max(len(row["input_ids"]) for row in rows)
        rows = [{**row, "attention_mask": [1] * len(row["input_ids"])} for row in rows]
        return {key: torch.tensor([row[key] + [fill] * (longest - len(row[key])) for row in rows])
                for key, fill in self.fill.items()}


def sha256(path: Path) -> str:
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def describe_base(name: str) -> dict[str, str | None]:
    """How `training.json` names the base: no path of this machine, its weights' hash where local."""
    weights = Path(name) / "model.safetensors"
    return {"name": Path(name).name if Path(name).exists() else name,
            "sha256": sha256(weights) if weights.is_file() else None}


def record(s: TrainSettings, rows: list[Row], counts, history: list[dict], dtype: str, seconds: float) -> dict:
    """The contents of `training.json`."""
    settings = {k: v for k, v in dataclasses.asdict(s).items() if k not in ("output", "base", "data", "resume")}
    return {
        "recipe": s.recipe, "settings": settings, "dtype": dtype, "base": describe_base(s.base),
        "data": [{"name": Path(p).name, "sha256": sha256(Path(p))} for p in s.data], "rows": len(rows),
        "parameters": {"trainable": counts.trainable, "all": counts.all},
        "losses": [{"step": h["step"], "loss": h["loss"]} for h in history if "loss" in h],
        "seconds": round(seconds, 1),
        "versions": {p: importlib.metadata.version(p) for p in ("torch", "transformers", "peft", "accelerate")},
    }


def save_adapter(model, tokenizer, about: dict, output: Path) -> None:
    """The adapter directory, written aside and moved into place part by part, its config last."""
    part = output / ".part"
    shutil.rmtree(part, ignore_errors=True)
    model.peft_config["default"].base_model_name_or_path = about["base"]["name"]
    model.save_pretrained(part, save_embedding_layers=False)
    tokenizer.save_pretrained(part)
    (part / "training.json").write_text(json.dumps(about, ensure_ascii=False, indent=1), encoding="utf-8")
    write_card(part / "README.md", about)
    for name in PARTS:
        os.replace(part / name, output / name)
    shutil.rmtree(part)


def train(s: TrainSettings) -> Path:
    """Run it all; returns the adapter directory. Ctrl-C saves a checkpoint and raises again."""
    check_paths(s)
    tokenizer = load_tokenizer(s.base)
    rows = read_rows([Path(p) for p in s.data], tokenizer.all_special_tokens)
    model = load_base(s.base)
    device, dtype = pick_device(s)

    from train.loss import teach_answers_only
    from transformers import Trainer, TrainerCallback, TrainingArguments, set_seed

    set_seed(s.seed)
    teach_answers_only(model)
    model = attach_lora(model, r=s.r, lora_alpha=s.lora_alpha, lora_dropout=s.lora_dropout,
                        target_modules=s.target_modules, use_rslora=s.use_rslora)
    counts = count_parameters(model)
    encoded = [encode_row(row, tokenizer, s.max_length, s.ending, s.whole_text) for row in rows]
    cut = sum(len(e["input_ids"]) == s.max_length for e in encoded)
    print(f"{counts}\n{len(rows):,} rows, {cut} of {s.max_length} tokens or cut there; {device}, {dtype}",
          file=sys.stderr)

    output = Path(s.output)
    output.mkdir(parents=True, exist_ok=True)
    arguments = TrainingArguments(
        output_dir=str(output), max_steps=s.max_steps, per_device_train_batch_size=s.batch,
        learning_rate=s.learning_rate, warmup_steps=s.warmup_steps, lr_scheduler_type=s.schedule,
        train_sampling_strategy="group_by_length", logging_steps=s.logging_steps, save_steps=s.save_steps, seed=s.seed, use_cpu=device == "cpu",
        bf16=dtype == "bfloat16", fp16=dtype == "float16", remove_unused_columns=False, report_to="none",
        dataloader_pin_memory=device == "cuda")
    trainer = Trainer(model=model, args=arguments, train_dataset=encoded, processing_class=tokenizer,
                      data_collator=Collator(tokenizer.pad_token_id))
    began = time.monotonic()

    class WholeCheckpoints(TrainerCallback):
        """Every checkpoint-N is a complete adapter directory."""

        def on_save(self, args, state, control, **_):
            here = output / f"checkpoint-{state.global_step}"
            about = record(s, rows, counts, state.log_history, dtype, time.monotonic() - began)
            save_adapter(model, tokenizer, about, here)

    trainer.add_callback(WholeCheckpoints())
    try:
        with contextlib.redirect_stdout(sys.stderr):  # Trainer prints losses; stdout is for the result
            trainer.train(resume_from_checkpoint=True if s.resume else None)
    except KeyboardInterrupt:
        trainer._save_checkpoint(model, trial=None)
        print(f"interrupted at step {trainer.state.global_step}, saved; add --resume to go on", file=sys.stderr)
        raise
    history = trainer.state.log_history
    save_adapter(model, tokenizer, record(s, rows, counts, history, dtype, time.monotonic() - began), output)
    return output
