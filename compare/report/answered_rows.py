"""The engine's answers to rows and its losses on plain text, measured, kept as they come, shared among processes."""

from __future__ import annotations

import hashlib
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from compare.analysis.token_shift import Shift, summary
from compare.engine.answers import Column, answer_all
from compare.engine.interface import BASE, Engine, GivenAnswer, Question, Sampling, Variant
from compare.report.measures import Answer, judge
from compare.report.results import Result, ResultsFile, key
from compare.report.rows import Row
from lens.errors import BadAdapter, BadQuestion
from lens.processes import Processes
from lens.terminal_text import one_line

LONGEST = 512  # tokens of a sentence that are read
ROWS_AT_ONCE = 8  # sentences in one forward


@dataclass
class Silence:
    """A column of the base without an answer: only the other column's answer is then scored."""

    variant: Variant = BASE
    token_ids: list[int] = field(default_factory=list)
    finish_reason: str | None = None
    prompt_ids: tuple[int, ...] = ()


@dataclass(frozen=True)
class Losses:
    """One variant on all sentences: `nats`, summed over each sentence, and the `tokens` that were predicted."""

    nats: tuple[float, ...]
    tokens: tuple[int, ...]


@dataclass(frozen=True)
class Plain:
    """Plain text that nobody trained on: the file's name, its sentences."""

    name: str
    sentences: tuple[str, ...]

    @property
    def sha256(self) -> str:
        return hashlib.sha256("\n".join(self.sentences).encode("utf-8", "replace")).hexdigest()


def likelihoods(engine: Engine, given: Sequence[GivenAnswer]) -> list[float]:
    """Of each answer, nats, in one forward. Raises BadAdapter where one is no finite number."""
    found = engine.log_likelihoods(given)
    if not all(map(math.isfinite, found)):
        raise BadAdapter("logits-not-finite")
    return found


def losses(engine: Engine, plain: Plain, variants: Sequence[Variant]) -> list[Losses]:
    """How each variant predicts every sentence, where forgetting shows first; a sentence's first token is given."""
    rows = [ids for s in plain.sentences if len(ids := engine.tokens.encode(s)[:LONGEST]) > 1]
    given = [[GivenAnswer(ids[:1], ids[1:], variant) for ids in rows] for variant in variants]
    return [Losses(tuple(-found for start in range(0, len(rows), ROWS_AT_ONCE)
                         for found in likelihoods(engine, some[start:start + ROWS_AT_ONCE])),
                   tuple(len(ids) - 1 for ids in rows)) for some in given]


def reference_log_likelihood(engine: Engine, row: Row, columns: Sequence[Column]) -> list[float | None]:
    """Of the row's reference and its `</s>`, nats a token, under each column's variant; None without a reference."""
    if not row.output.strip():
        return [None] * len(columns)
    ids = [*engine.tokens.encode(row.output), engine.tokens.end_id]
    return [total / len(ids) for total in likelihoods(engine, [GivenAnswer(c.prompt_ids, ids, c.variant)
                                                               for c in columns])]


def measured(engine: Engine, row: Row, columns: Sequence[Column]) -> tuple[Answer, ...]:
    """The finished columns of one row, judged and scored against the base."""
    answers = []
    for column, likely in zip(columns, reference_log_likelihood(engine, row, columns), strict=True):
        variant = column.variant
        answer = judge(row, variant.name, variant.adapter, variant.strength, column.text, column.token_ids,
                       str(column.finish_reason))
        if variant != BASE:
            shifted = summary(Shift.of(engine, [Silence(), column]).adapted)
            answer = replace(answer, mean_kl=shifted.kl_mean, shifted=shifted.shifted)
        answers.append(replace(answer, reference_log_likelihood=likely))
    return tuple(answers)


def check_rows(engine: Engine, rows: Sequence[Row], sampling: Sampling) -> None:
    """Before anything is asked, and alike in every process. Raises BadQuestion naming the row."""
    for row in rows:
        try:
            engine.prompts(Question(row.input, row.instruction), [BASE], sampling)
        except BadQuestion as err:
            raise BadQuestion("report-row-cannot-be-asked", row=row.index + 1, text=row.input[:20], reason=err) from err


def answer_rows(engine: Engine, rows: Sequence[Row], variants: Sequence[Variant], sampling: Sampling, settings: dict,
                file: ResultsFile, processes: Processes) -> list[tuple[Answer, ...]]:
    """Each row's answers in the order of `variants`; rows that the file already has are not asked again.

    `settings` is everything else that the answers depend on. All processes get all answers. Raises BadQuestion.
    """
    from tqdm import tqdm

    check_rows(engine, rows, sampling)
    settings = {**settings, "sampling": vars(sampling),
                "variants": [[v.name, v.strength, v.prompt, v.part] for v in variants]}
    keys = [key(row, settings) for row in rows]
    wanted = set(keys)
    known = {r.key: r for r in processes.gather([r for r in file.read().values() if r.key in wanted])}
    first = dict(zip(reversed(keys), reversed(rows), strict=True))  # of rows that are the same, the first is asked
    mine = processes.split([row for name, row in first.items() if name not in known][::-1])
    by_index = {row.index: name for name, row in first.items()}
    found = []
    questions = [Question(row.input, row.instruction) for row in mine]
    label = one_line(" · ".join(v.name for v in variants))
    with tqdm(total=len(mine), desc=label, unit="question", file=sys.stderr, disable=not processes.main,
              dynamic_ncols=True) as bar:
        for index, columns in answer_all(engine, questions, variants, sampling):
            result = Result(by_index[mine[index].index], measured(engine, mine[index], columns))
            file.append(result)
            found.append(result)
            bar.update()
    known |= {r.key: r for r in processes.gather(found)}
    if processes.main:
        file.keep(known.values())
    return [known[name].answers for name in keys]
