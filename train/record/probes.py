"""Probe questions: the same few, answered greedily every so many steps, so that learning can be watched.

Answers go to `probes.jsonl`, a JSON object a line: `step`, `question`, `answer`, `finish` ("stop" when
the model ended by itself, "length" when it was cut).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from transformers import TrainerCallback

from lens.chat import Prompt
from lens.errors import BadSetting
from lens.rows.rows import Row
from lens.terminal_text import one_line, visible
from train.loss import answering
from train.record.log import append

MAX_NEW_TOKENS = 64
MOST_ROWS = 5


@dataclass(frozen=True)
class ProbeAnswer:
    """One greedy answer; `finish` is "stop" or "length"."""

    step: int
    question: str
    answer: str
    finish: str


def choose_probes(questions: Sequence[str], rows: Sequence[Row]) -> list[Row]:
    """The questions as rows, or where there are none five of `rows`, evenly spaced. Raises BadSetting."""
    for question in questions:
        if not question.strip():
            raise BadSetting("probe-empty")
    if questions:
        return [Row("", question, "", "--probes") for question in questions]
    count = min(MOST_ROWS, len(rows))
    return [rows[i * len(rows) // count] for i in range(count)]


def answer_probes(model, tokenizer, probes: Sequence[Row], step: int,
                  ends: frozenset[int] = frozenset()) -> list[ProbeAnswer]:
    """Greedy answers of the PeftModel as it stands, in one batch. Its mode and random state are kept. `ends`: ids that
    end an answer, the tokenizer's own end where none are given."""
    import torch

    prompts = Prompt(tokenizer).encode_all((row.instruction, row.turns[0][0]) for row in probes)
    ends = ends or frozenset([tokenizer.eos_token_id])
    longest, pad = max(map(len, prompts)), tokenizer.pad_token_id or 0
    device = model.get_base_model().device
    # Padded by hand: a tokenizer that has padded once saves that in the adapter's tokenizer.json.
    ids = torch.tensor([[pad] * (longest - len(p)) + p for p in prompts], device=device)
    mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts], device=device)
    with answering(model), torch.inference_mode():
        found = model.get_base_model().generate(
            input_ids=ids, attention_mask=mask, do_sample=False, max_new_tokens=MAX_NEW_TOKENS, use_cache=True,
            eos_token_id=sorted(ends), pad_token_id=pad)[:, longest:].tolist()
    answers = []
    for row, tokens in zip(probes, found, strict=True):
        end = next((at for at, token in enumerate(tokens) if token in ends), None)
        text = tokenizer.decode(tokens[:end], skip_special_tokens=True)
        answers.append(ProbeAnswer(step, row.turns[0][0], text, "length" if end is None else "stop"))
    return answers


class Probes(TrainerCallback):
    """Answers the probes every `every` steps and after the last, keeps and shows them. Process 0 alone."""

    def __init__(self, path: Path, tokenizer, probes: Sequence[Row], every: int, ends: frozenset[int] = frozenset()):
        self.path, self.tokenizer, self.probes, self.every, self.ends = path, tokenizer, probes, every, ends

    def on_step_end(self, args, state, control, model=None, **_):
        due = self.every and (state.global_step % self.every == 0 or state.global_step >= state.max_steps)
        if due and state.is_world_process_zero:
            self.ask(model, state.global_step)

    def ask(self, model, step: int) -> None:
        print(f"step {step}, greedy answers:", file=sys.stderr)
        for answer in answer_probes(model, self.tokenizer, self.probes, step, self.ends):
            append(self.path, asdict(answer))
            print(f"  {one_line(answer.question)} → {visible(answer.answer)} [{answer.finish}]", file=sys.stderr)
