"""The Blind test tab: two answers to a held-out question without names, a vote, then the names and the result so far.

Which side is which stays on the server until the vote is in the file.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import gradio as gr
from markupsafe import Markup

from compare.engine.answers import compare
from compare.engine.interface import BASE, Engine, LoadedAdapter, Question, Sampling, Variant
from compare.page.blind.llm_comparator import as_llm_comparator
from compare.page.blind.pair import CHOICES, Answer, BlindPair
from compare.page.shared import held_out
from compare.page.shared.column_list import first_adapter
from compare.page.shared.examples import heldout_file
from compare.page.shared.templates import draw, read, tab_piece
from compare.page.shared.updates import notify, updates
from compare.report.rows import Row
from compare.server.running_answers import Run
from compare.server.votes import Vote, Votes, as_csv, as_json_lines
from lens.errors import BadRows, BadSetting, LensError, Unavailable

LENGTH = 96  # tokens an answer may have
ATTEMPTS = 4  # questions tried for a pair of answers that differ
AT_ONCE = 4  # pairs written at once; more visitors wait in Gradio's queue
EXPORTS = {"csv": as_csv, "jsonl": as_json_lines, "json": as_llm_comparator}


@dataclass(frozen=True)
class Voting:
    """Pairs from one engine and the adapter that is voted on, verdicts into one file."""

    engine: Engine
    adapter: LoadedAdapter
    votes: Votes

    def columns(self, row: Row, run: Run) -> Iterator[Sequence]:
        """Base and the adapter as they grow."""
        return compare(self.engine, Question(row.input, row.instruction), [BASE, Variant.of(self.adapter.name)],
                       Sampling(LENGTH), run.cancelled)

    def deal(self) -> Iterator[tuple[str, BlindPair | None]]:
        """(HTML, pair): first that it is being written, then the pair, side by side at random."""
        def problem(error: LensError) -> tuple:
            return draw("blind/view", "no_pair", error=error, below=self.result()), None

        yield from updates(self.pairs, problem)

    def pairs(self, run: Run) -> Iterator[tuple]:
        columns: Sequence = ()
        yield draw("blind/view", "writing", below=self.result()), None
        for _ in range(ATTEMPTS):
            row = held_out.any_row(file=(file := heldout_file(self.engine)))
            if row is None:
                raise BadRows("no-held-out-questions" if file == held_out.HELDOUT else "no-held-out-of-adapter",
                              file=file.name)
            for columns in self.columns(row, run):
                yield gr.skip(), gr.skip()  # a visitor who left is noticed at a yield
            if columns[0].text != columns[1].text:
                break
        base, adapted = map(Answer.of, columns)
        pair = BlindPair(secrets.token_hex(8), row, base, adapted, secrets.choice((True, False)))
        yield pair.draw(None, self.result()), pair

    def vote(self, pair: BlindPair | None, choice: object, identity: object) -> Markup:
        """Keep the verdict, and only then show which answer was whose."""
        if pair is None or pair.identity != identity:
            return draw("blind/view", "no_pair", error=Unavailable("pair-gone"), below=self.result())
        if choice not in CHOICES:
            return pair.draw(None, self.result())
        try:
            self.votes.add(Vote(pair.identity, pair.row.input, pair.row.instruction, self.engine.facts.base_name,
                                self.adapter.name, self.adapter.sha256, pair.base.text, pair.adapted.text,
                                pair.adapted_left, pair.verdict(str(choice))))
        except LensError as err:
            return pair.draw(None, draw("blind/view", "problem", error=err))
        return pair.draw(str(choice), self.result())

    def result(self) -> Markup:
        """The votes so far."""
        try:
            return draw("blind/view", "tally", tally=self.votes.tally())
        except LensError as err:
            return draw("blind/view", "problem", error=err)

    def export(self, kind: object) -> str:
        """All votes as text: "csv", "jsonl", or "json" for LLM Comparator."""
        try:
            if kind not in EXPORTS:
                raise BadSetting("export-kind", value=repr(kind)[:40], allowed=", ".join(EXPORTS))
            return EXPORTS[str(kind)](self.votes.all())
        except LensError as err:
            notify(err)


def build(engine: Engine, votes: Votes | None = None) -> None:
    """Lay the tab out inside the current Blocks. `votes`: where verdicts go (default: `votes_path`)."""
    tab_piece("blind", draw("blind/view", "heading"))
    adapter = first_adapter(engine)
    if not adapter:
        tab_piece("blind", draw("blind/view", "no_adapter"))
        return
    voting = Voting(engine, adapter, votes or Votes())

    def export(kind: str) -> str:
        return voting.export(kind)

    def vote(pair: BlindPair | None, event: gr.EventData) -> str:
        return voting.vote(pair, event.choice, event.ballot)

    pair = gr.State(None)
    view = tab_piece("blind", draw("blind/view", "writing", below=""), elem_id="blind-view",
                     js_on_load=read("blind/tab.js", "shared/opened.js"), server_functions=[export])
    dealt = {"fn": voting.deal, "inputs": None, "outputs": [view, pair], "api_visibility": "private",
             "concurrency_limit": AT_ONCE, "concurrency_id": "blind", "show_progress": "hidden"}
    view.opened(**dealt)  # tab.js sends it when the tab is first seen
    view.another(**dealt)
    view.vote(vote, pair, view, api_visibility="private", show_progress="hidden", queue=False)
