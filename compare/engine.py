"""One copy of a BLOOM, every column a row of one batch, all rows advancing a token together.

PEFT multiplies an adapter's update by `layer.scaling[name]`; a (rows, 1, 1) tensor there gives each
row a strength of its own, 0 for base. One step at a time holds the lock. Knows nothing of who asks.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from compare.adapters import AdapterFiles, attach, read_adapter
from compare.errors import BadBase, BadQuestion
from compare.prompt import Prompt
from compare.questions import Question
from compare.repetition import Loop, find_loop, seq_rep
from compare.sampling import Chooser, Sampling


@dataclass(frozen=True)
class Variant:
    """What a column shows: the adapter (None: base) at a strength, under a name."""

    name: str
    adapter: str | None = None
    strength: float = 0.0


BASE = Variant("base")


@dataclass
class Column:
    """One variant's answer as it grows. `finish_reason` is None while it does; `seconds` of wall time."""

    variant: Variant
    token_ids: list[int] = field(default_factory=list)
    text: str = ""
    finish_reason: str | None = None
    seconds: float = 0.0

    @property
    def loop(self) -> Loop | None:
        return find_loop(self.token_ids)

    def as_dict(self) -> dict:
        """The contract's fields of a column."""
        loop = self.loop
        return {"variant": self.variant.name, "adapter": self.variant.adapter, "strength": self.variant.strength,
                "text": self.text, "token_ids": self.token_ids, "finish_reason": self.finish_reason,
                "tokens": len(self.token_ids), "seconds": round(self.seconds, 3),
                "repetition": {"seq_rep_4": seq_rep(self.token_ids), "loop": loop and vars(loop)}}


def pick_device(device: str) -> str:
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return str(torch.empty(0, device=device).device)
    except (RuntimeError, AssertionError) as err:
        raise BadBase(f"device {device!r} is not available here; allowed: auto, cpu, cuda where there is a GPU") from err


def pick_dtype(dtype: str, device: str) -> torch.dtype:
    """float32 on CPU (bf16 is ruinous on some processors); on GPUs bf16 where they have it, else fp16."""
    if dtype != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[dtype]
    if device == "cpu":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


class Engine:
    """One base with at most one adapter, and the only code that runs it."""

    def __init__(self, base: str, adapter: str | None = None, device: str = "auto", dtype: str = "auto"):
        """Load. Raises BadBase or BadAdapter before anything runs."""
        from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

        self.files: AdapterFiles | None = read_adapter(Path(adapter)) if adapter else None
        self.base_name, self.device = Path(base).name if Path(base).is_dir() else base, pick_device(device)
        self.dtype = pick_dtype(dtype, self.device)
        if Path(base).is_dir():
            os.environ.setdefault("HF_HUB_OFFLINE", "1")
        try:
            config = AutoConfig.from_pretrained(base)
            if config.model_type != "bloom":
                raise BadBase(f"base {base} is a {config.model_type!r} model; allowed: bloom")
            self.tokenizer = AutoTokenizer.from_pretrained(base)
            model = AutoModelForCausalLM.from_pretrained(base, dtype=self.dtype, use_safetensors=True)
        except (OSError, ValueError) as err:
            if isinstance(err, BadBase):
                raise
            raise BadBase(f"base {base} cannot be loaded: {str(err).splitlines()[0]}; give a BLOOM model directory "
                          "or a hub name such as bigscience/bloom-1b1") from err
        self.use_our_template()
        self.prompt = Prompt(self.tokenizer)
        self.model = model.to(self.device).eval()
        self.parameters = model.num_parameters()  # of the base
        if self.files:
            self.model = attach(model, self.files).to(self.device)
        self.window = 2048  # tokens; what BLOOM was trained on, though ALiBi itself has no limit
        self.lock = threading.Lock()

    def use_our_template(self) -> None:
        """Give a base that was never in chat format the two markers (spare rows) and our template."""
        markers = ["<|beginofutterance|>", "<|endofutterance|>"]
        if any(self.tokenizer.convert_tokens_to_ids(m) in (None, self.tokenizer.unk_token_id) for m in markers):
            self.tokenizer.add_special_tokens({"extra_special_tokens": markers})
        if not self.tokenizer.chat_template:
            template = Path(__file__).resolve().parent.parent / "assets" / "base" / "chat_template.jinja"
            self.tokenizer.chat_template = template.read_text(encoding="utf-8")

    def variants(self, strengths: Sequence[float] = (1.0,)) -> list[Variant]:
        """Base first, then the adapter at each strength."""
        if not self.files:
            return [BASE]
        name = self.files.name
        return [BASE] + [Variant(name if s == 1 else f"{name}@{s:g}", name, s) for s in strengths]

    @contextmanager
    def strengths(self, variants: Sequence[Variant]) -> Iterator[None]:
        """Within, row i of every batch carries variants[i]'s strength. Hold the lock."""
        from peft.tuners.lora import LoraLayer

        if not self.files:
            yield
            return
        name = self.files.name
        layers = [m for m in self.model.modules() if isinstance(m, LoraLayer) and name in m.scaling]
        before = [layer.scaling[name] for layer in layers]
        row = torch.tensor([v.strength if v.adapter else 0.0 for v in variants], device=self.device)
        try:
            for layer, scale in zip(layers, before):
                layer.scaling[name] = (row * scale).view(-1, 1, 1)
            yield
        finally:
            for layer, scale in zip(layers, before):
                layer.scaling[name] = scale

    def compare(self, question: str, instruction: str = "", variants: Sequence[Variant] | None = None,
                sampling: Sampling = Sampling(), cancelled: threading.Event | None = None) -> Iterator[list[Column]]:
        """Yield all columns after every token, the last time with every `finish_reason` set.

        Raises BadQuestion for an empty question or one longer than the window.
        """
        prompt = self.prompt.encode(question, instruction)
        if len(prompt) + sampling.max_new_tokens > self.window:
            raise BadQuestion(f"the question is {len(prompt)} tokens long and the answer may have "
                              f"{sampling.max_new_tokens}; together at most {self.window} are allowed")
        columns = [Column(v) for v in (variants or self.variants())]
        began = time.monotonic()
        for ids in self.decode(prompt, [c.variant for c in columns], Chooser(sampling)):
            self.grow(columns, ids, sampling, time.monotonic() - began)
            if cancelled and cancelled.is_set():
                for column in columns:
                    column.finish_reason = column.finish_reason or "cancelled"
            yield columns
            if all(c.finish_reason for c in columns):
                return

    def answer_all(self, questions: Sequence[Question], variants: Sequence[Variant] | None = None,
                   sampling: Sampling = Sampling()) -> Iterator[tuple[int, list[Column]]]:
        """Yield (index of the question, its finished columns), as they finish. Raises as `compare` does."""
        for index, question in enumerate(questions):
            columns: list[Column] = []
            for columns in self.compare(question.text, question.instruction, variants, sampling):
                pass
            yield index, columns

    def states(self, rows: Sequence[Sequence[int]], variants: Sequence[Variant]) -> Tensor:
        """(rows, longest, hidden) last hidden states of row i under variants[i], in one forward.

        Rows are padded on the right, which a causal model never looks at.
        """
        longest = max(map(len, rows))
        pad = self.tokenizer.pad_token_id
        ids = torch.tensor([list(row) + [pad] * (longest - len(row)) for row in rows], device=self.device)
        model = self.model.get_base_model() if self.files else self.model
        with self.lock, torch.inference_mode(), self.strengths(variants):
            return model.transformer(input_ids=ids, use_cache=False).last_hidden_state

    def logits(self, states: Tensor) -> Tensor:
        """(…, hidden) → (…, vocabulary) in float32; give it few positions at once, the vocabulary is wide."""
        model = self.model.get_base_model() if self.files else self.model
        with torch.inference_mode():
            return model.lm_head(states).float()

    def grow(self, columns: list[Column], ids: list[int], sampling: Sampling, seconds: float) -> None:
        """Add one step's tokens to the columns that are still open."""
        for column, token in zip(columns, ids):
            if column.finish_reason:
                continue
            column.seconds = seconds
            if token == self.tokenizer.eos_token_id:
                column.finish_reason = "stop"
                continue
            column.token_ids.append(token)
            # A token may end inside a UTF-8 character: what is not whole yet is not shown.
            column.text = self.tokenizer.decode(column.token_ids, skip_special_tokens=True).rstrip("\ufffd")
            if len(column.token_ids) == sampling.max_new_tokens:
                column.finish_reason = "length"

    def decode(self, prompt: list[int], variants: Sequence[Variant], chooser: Chooser) -> Iterator[list[int]]:
        """Yield each step's tokens, one per variant, without end.

        The lock is held for a step, not for an answer: questions asked at once take turns by the token,
        and one whose reader has gone away holds nothing.
        """
        from transformers import DynamicCache

        cache = DynamicCache(config=self.model.config)
        ids: Tensor = torch.tensor([prompt] * len(variants), device=self.device)
        while True:
            with self.lock, torch.inference_mode(), self.strengths(variants):
                logits = self.model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
                ids = chooser.choose(logits[:, -1].float())[:, None]
            yield ids[:, 0].tolist()
