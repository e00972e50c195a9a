"""The engine's answers to rows, measured, kept as they come, shared among processes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from compare.analysis.token_shift import log_likelihood, shift, summary
from compare.questions import Question
from compare.report.measures import Answer, judge
from compare.report.results import Result, ResultsFile, key
from compare.report.rows import Row
from lens.errors import BadQuestion
from lens.processes import Processes


@dataclass(frozen=True)
class Silence:
    """A column of the base without an answer: only the other column's answer is then scored."""

    variant: object
    token_ids: list[int] = field(default_factory=list)
    finish_reason: str | None = None


def reference_log_likelihood(engine, row: Row, prompt_ids: list[int], variants: Sequence) -> list[float | None]:
    """Of the row's reference and its `</s>`, nats a token, under each variant; None without a reference."""
    if not row.output.strip():
        return [None] * len(variants)
    ids = [*engine.tokenizer.encode(row.output, add_special_tokens=False), engine.tokenizer.eos_token_id]
    return [total / len(ids) for total in log_likelihood(engine, prompt_ids, ids, variants)]


def measured(engine, row: Row, columns: Sequence) -> tuple[Answer, ...]:
    """The finished columns of one row, judged and scored against the base."""
    prompt_ids = engine.prompt.encode(row.input, row.instruction)
    base = engine.variants([])[0]
    likely = reference_log_likelihood(engine, row, prompt_ids, [c.variant for c in columns])
    answers = []
    for column, log_likelihood_a_token in zip(columns, likely, strict=True):
        variant = column.variant
        answer = judge(row, variant.name, variant.adapter, variant.strength, column.text, column.token_ids,
                       column.finish_reason)
        if variant != base:
            shifted = summary(shift(engine, prompt_ids, [Silence(base), column]).adapted)
            answer = replace(answer, mean_kl=shifted.kl_mean, shifted=shifted.shifted)
        answers.append(replace(answer, reference_log_likelihood=log_likelihood_a_token))
    return tuple(answers)


def check_lengths(engine, rows: Sequence[Row], max_new_tokens: int) -> None:
    """Before anything is asked, and alike in every process. Raises BadQuestion naming the row."""
    for row in rows:
        length = len(engine.prompt.encode(row.input, row.instruction))
        if length + max_new_tokens > engine.window:
            raise BadQuestion(f"--data row {row.index + 1} ({row.input[:20]}…) is {length} tokens long and the answer "
                              f"may have {max_new_tokens}; together at most {engine.window} are allowed")


def answer_rows(engine, rows: Sequence[Row], variants: Sequence, sampling, settings: dict, file: ResultsFile,
                processes: Processes) -> list[tuple[Answer, ...]]:
    """Each row's answers in the order of `variants`; rows that the file already has are not asked again.

    `settings` is everything else that the answers depend on. All processes get all answers. Raises BadQuestion.
    """
    from tqdm import tqdm

    check_lengths(engine, rows, sampling.max_new_tokens)
    settings = {**settings, "sampling": vars(sampling), "variants": [[v.name, v.strength] for v in variants]}
    keys = [key(row, settings) for row in rows]
    wanted = set(keys)
    known = {r.key: r for r in processes.gather([r for r in file.read().values() if r.key in wanted])}
    first = dict(zip(reversed(keys), reversed(rows), strict=True))  # of rows that are the same, the first is asked
    mine = processes.split([row for name, row in first.items() if name not in known][::-1])
    by_index = {row.index: name for name, row in first.items()}
    found = []
    questions = [Question(row.input, row.instruction) for row in mine]
    label = " · ".join(v.name for v in variants)
    with tqdm(total=len(mine), desc=label, unit="question", file=sys.stderr, disable=not processes.main,
              dynamic_ncols=True) as bar:
        for index, columns in engine.answer_all(questions, variants, sampling):
            result = Result(by_index[mine[index].index], measured(engine, mine[index], columns))
            file.append(result)
            found.append(result)
            bar.update()
    known |= {r.key: r for r in processes.gather(found)}
    if processes.main:
        file.keep(known.values())
    return [known[name].answers for name in keys]
