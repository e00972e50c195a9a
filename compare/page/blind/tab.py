"""The Blind test tab: two answers to a held-out question without names, a vote, then the names and the result so far.

Asks the engine for a pair and `compare.server.votes` to keep the verdict; ballot.py draws them. Which side
is which stays on the server until the vote is in the file.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from html import escape
from typing import TYPE_CHECKING

import gradio as gr

from compare.engine.interface import Sampling
from compare.page.blind.ballot import CHOICES, Ballot, Said, draw, draw_problem, draw_tally, draw_waiting, problem
from compare.page.shared import held_out as heldout
from compare.page.shared.error_text import Told
from compare.page.shared.html import own, read
from compare.page.shared.words import both, heading
from compare.report.rows import Row
from compare.server.votes import Vote, Votes, as_csv, as_json_lines
from lens.errors import BadQuestion, LensError

if TYPE_CHECKING:  # the page is given its engine, and loads none
    from compare.engine.engine import Engine
    from lens.adapter_dir import AdapterFiles

section = partial(own, css_template=read("shared/tab.css", "blind/tab.css"), elem_classes=["lens-own", "lens-blind"])
JS = read("blind/tab.js", "shared/opened.js")
LENGTH = 96  # tokens an answer may have
ATTEMPTS = 4  # questions tried for a pair of answers that differ
AT_ONCE = 4  # pairs written at once; more visitors wait in Gradio's queue
EXPORTS = {"csv": as_csv, "jsonl": as_json_lines}
LABELS = {"盲测": "Blind test"}  # what Gradio draws, for the page's language switch
NO_PAIR = ("没有加载适配器，没有两个回答可比。用 <code>--adapter</code> 加载一个。",
           "No adapter is loaded, so there are no two answers to judge. Load one with <code>--adapter</code>.")
GONE = ("这一题已经不在台上了，请换一题。", "That pair is no longer on the table; ask for another.")
BROKEN = ("出错了，没有写成。请换一题。", "Something went wrong before both were written. Ask for another pair.")


@dataclass(frozen=True)
class Voting:
    """Pairs from one engine, verdicts into one file."""

    engine: Engine
    votes: Votes

    @property
    def files(self) -> AdapterFiles:
        """Of the adapter that is voted on, the first."""
        assert self.engine.files  # `build` lays nothing out where there is none
        return self.engine.files

    def columns(self, row: Row) -> Iterator[Sequence]:
        """Base and the first adapter as they grow."""
        base, *others = self.engine.variants([1.0])
        adapted = next(v for v in others if v.adapter == self.files.name)
        return self.engine.compare(row.input, row.instruction, [base, adapted], Sampling(LENGTH))

    def deal(self) -> Iterator[tuple[str, Ballot | None]]:
        """(HTML, ballot): first that it is being written, then the pair, side by side at random."""
        columns: Sequence = ()
        yield draw_waiting(self.result()), None
        try:
            for _ in range(ATTEMPTS):
                row = heldout.any_row()
                if row is None:
                    raise BadQuestion(f"{heldout.HELDOUT.name} is missing, so there is no question to ask")
                for grown in self.columns(row):
                    columns = grown
                    yield gr.skip(), gr.skip()  # a visitor who left is noticed at a yield
                if columns[0].text != columns[1].text:
                    break
            base, adapted = map(Said.of, columns)
            ballot = Ballot(secrets.token_hex(8), row, base, adapted, secrets.choice((True, False)))
            yield draw(ballot, None, self.result()), ballot
        except LensError as err:
            yield draw_problem(Told.of(err).html(), self.result()), None
        except Exception:
            yield draw_problem(both(*BROKEN), self.result()), None
            raise

    def vote(self, ballot: Ballot | None, choice: object, identity: object) -> str:
        """Keep the verdict, and only then show which answer was whose."""
        if ballot is None or ballot.identity != identity:
            return draw_problem(both(*GONE), self.result())
        if choice not in [name for name, *_ in CHOICES]:
            return draw(ballot, None, self.result())
        try:
            self.votes.add(Vote(ballot.identity, ballot.row.input, ballot.row.instruction, self.engine.base_name,
                                self.files.name, self.files.sha256, ballot.base.text,
                                ballot.adapted.text, ballot.adapted_left, ballot.verdict(choice)))
        except LensError as err:
            return draw(ballot, None, problem(escape(str(err))))
        return draw(ballot, choice, self.result())

    def result(self) -> str:
        """The votes so far as HTML."""
        try:
            return draw_tally(self.votes.tally())
        except LensError as err:
            return problem(escape(str(err)))

    def export(self, kind: object) -> str:
        """All votes as text: "csv" or "jsonl"."""
        if kind not in EXPORTS:
            raise gr.Error(f"export is {str(kind)[:20]!r}; allowed: {', '.join(EXPORTS)}", print_exception=False)
        try:
            return EXPORTS[kind](self.votes.all())
        except LensError as err:
            raise gr.Error(str(err), print_exception=False) from err


def build(engine, votes: Votes | None = None) -> None:
    """Lay the tab out inside the current Blocks. `votes`: where verdicts go (default: `votes_path`)."""
    section(heading("不看名字，哪个更好？", "Which is better, names hidden?",
                    "一道没练过的题，两个回答，左右随机。先投票，再揭晓。",
                    "A question kept out of training, two answers, sides at random. Vote first, then see."))
    if not engine.files:
        section(f'<p class="empty">{both(*NO_PAIR)}</p>')
        return
    voting = Voting(engine, votes or Votes())

    def export(kind: str) -> str:
        return voting.export(kind)

    def vote(ballot: Ballot | None, event: gr.EventData) -> str:
        return voting.vote(ballot, event.choice, event.ballot)

    ballot = gr.State(None)
    view = section(draw_waiting(""), js_on_load=JS, elem_id="blind-view", server_functions=[export])
    dealt = {"fn": voting.deal, "inputs": None, "outputs": [view, ballot], "api_visibility": "private",
             "concurrency_limit": AT_ONCE, "concurrency_id": "blind", "show_progress": "hidden"}
    view.opened(**dealt)  # blind.js sends it when the tab is first seen
    view.another(**dealt)
    view.vote(vote, ballot, view, api_visibility="private", show_progress="hidden", queue=False)
