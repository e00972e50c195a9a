"""Crossing over: an answer turned at one of its tokens, which goes on under either model beside the one it left.

Reads what ribbon.js sends, asks the engine, draws the answer while it grows and then token by token; crossing.js puts
the drawing in its place.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING

import gradio as gr

from compare.analysis.token_scores import score
from compare.analysis.token_shift import Position, answer_ids
from compare.analysis.token_text import Pieces
from compare.engine.interface import BASE, Continuation, Variant
from compare.page.changed import token_ribbon as ribbon
from compare.page.shared.error_text import Told
from compare.page.shared.question import LONGEST_TEXT
from compare.page.shared.words import BROKEN, WHY, both
from compare.server.running_answers import Run, Runs
from lens.errors import BadQuestion, LensError

if TYPE_CHECKING:  # the page is given its engine, and loads none
    from compare.engine.engine import Engine

LENGTH, ROOM, LONGEST = 128, 64, 512  # tokens: of the whole answer, at least after the turn, at most in all
BETWEEN = 0.1  # seconds between two drawings
MODELS = {"base": ("原模型", "the base"), "adapted": ("适配后的模型", "the adapted model")}
TURN = f'<span class="parts">{both("在此改道", "turned here")}</span>'
CLOSE = ('<button type="button" class="close" data-close="" aria-label="收起 · Close" title="收起 · Close">'
         '<span aria-hidden="true">×</span></button>')


@dataclass(frozen=True)
class Turn:
    """Of whose answer, to what, and where: it begins with `ids`, of which the first `kept` are its own and one more
    may be forced. `by`: the model that goes on, a key of `MODELS`."""

    question: str
    instruction: str
    adapter: str
    ids: tuple[int, ...]
    kept: int
    by: str

    @classmethod
    def read(cls, sent: object) -> Turn:
        """From a browser, which may send anything. Raises BadQuestion."""
        sent = sent if isinstance(sent, dict) else {}
        texts = question, instruction, adapter = [sent.get(name) for name in ("question", "instruction", "adapter")]
        ids, kept, by = (sent.get(name) for name in ("ids", "kept", "by"))
        if not all(isinstance(text, str) and len(text) <= LONGEST_TEXT for text in texts):
            raise BadQuestion(f"question, instruction and adapter are to be texts of at most {LONGEST_TEXT} characters")
        if not isinstance(ids, list) or not all(type(i) is int for i in ids) or len(ids) > LONGEST - ROOM:
            raise BadQuestion(f"ids are to be a list of at most {LONGEST - ROOM} token ids; turn the answer earlier")
        if type(kept) is not int or not len(ids) - 1 <= kept <= len(ids) or kept < 0 or by not in tuple(MODELS):
            raise BadQuestion(f"kept is {kept!r} of {len(ids)} and by is {by!r}; allowed: all or all but the last, and "
                              f"{' or '.join(MODELS)}")
        return cls(question, instruction, adapter, tuple(ids), kept, by)

    @property
    def sampling(self) -> Continuation:
        return Continuation(max(LENGTH, len(self.ids) + ROOM), prefix_ids=self.ids)


@dataclass(frozen=True)
class Crossing:
    """Turned answers over one engine, one at a time for each visitor."""

    engine: Engine
    runs: Runs = field(default_factory=Runs)

    def page(self, event: gr.EventData, request: gr.Request) -> Iterator[str]:
        """Drawings of the answer that the visitor asked for; an earlier one of theirs ends."""
        visit = request.session_hash or ""
        run = self.runs.begin(visit)
        try:
            yield from self.stream(Turn.read(event._data), run)
        except LensError as err:
            yield ribbon.problem(Told.of(err))
        except Exception:
            yield ribbon.problem(BROKEN)
            raise
        finally:
            self.runs.end(visit, run)

    def stop(self, request: gr.Request) -> None:
        self.runs.stop(request.session_hash or "")

    def stream(self, turn: Turn, run: Run) -> Iterator[str]:
        """First where it turns, then the answer as it grows, then its tokens under both models."""
        adapted = Variant.of(turn.adapter or next(iter(self.engine.adapters)))
        if adapted.adapter not in self.engine.adapters:
            raise BadQuestion(f"adapter is {turn.adapter!r}; allowed: {', '.join(self.engine.adapters)}")
        by = {"base": BASE, "adapted": adapted}[turn.by]
        grown = self.engine.compare(turn.question, turn.instruction, [by], turn.sampling, run.cancelled)
        pieces, drawn = Pieces(self.engine.tokenizer), 0.0
        yield growing(turn, pieces, turn.ids)
        for columns in grown:
            if run.superseded:
                return
            if time.monotonic() - drawn >= BETWEEN:
                drawn = time.monotonic()
                yield growing(turn, pieces, columns[0].token_ids)
        ids = answer_ids(self.engine, columns[0])
        yield whole(turn, self.positions(turn, ids, adapted), columns[0], self.engine.tokenizer.eos_token_id)

    def positions(self, turn: Turn, ids: Sequence[int], adapted: Variant) -> list[Position]:
        """The answer's tokens under both models, from one forward."""
        prompt = self.engine.prompt.encode(turn.question, turn.instruction)
        states = self.engine.states([[*prompt, *ids]] * 2, [BASE, adapted])
        return list(score(self.engine, ids, *states[:, len(prompt) - 1:]))


def sentence(turn: Turn, forced: str) -> str:
    """Where the answer turns and who goes on. `forced`: the text of the forced token, "" where none is."""
    zh, en = MODELS[turn.by]
    shown = escape(ribbon.visible(forced) or forced)
    if len(turn.ids) > turn.kept:
        return both(f"第 {turn.kept + 1} 个 token 改写成“{shown}”，由{zh}接着写。",
                    f"Token {turn.kept + 1} is forced to “{shown}”; {en} goes on.")
    return both(f"留下前 {turn.kept} 个 token，由{zh}接着写。", f"The first {turn.kept} tokens stay; {en} goes on.")


def article(turn: Turn, forced: str, figures: str, body: str, busy: bool) -> str:
    return (f'<article data-side="crossed" data-by="{turn.by}" aria-busy="{str(busy).lower()}"><header>'
            f'<h3>{both(*ribbon.SIDES["crossed"])}</h3><p class="fine">{figures}</p>{CLOSE}</header>'
            f'<p class="turn">{sentence(turn, forced)}</p>{body}</article>')


def growing(turn: Turn, pieces: Pieces, ids: Sequence[int]) -> str:
    """The answer so far: what was taken over, what was forced, what came since."""
    texts = [piece.text for piece in pieces.spell(ids)]
    if texts:
        texts[-1] = texts[-1].rstrip("\ufffd")  # a character that is not whole yet
    taken, forced, since = ("".join(part) for part in
                            (texts[:turn.kept], texts[turn.kept:len(turn.ids)], texts[len(turn.ids):]))
    text = f'<span class="taken">{escape(taken)}</span><mark>{escape(forced)}</mark>{escape(since)}'
    shown = f'<p class="plain" lang="zh-CN" tabindex="0">{text}</p>'
    return article(turn, forced, WHY[None][0].html(), shown, busy=True)


def whole(turn: Turn, positions: Sequence[Position], column, end_id: int) -> str:
    """The finished answer as a ribbon, which may be turned again."""
    forced = "".join(p.text for p in positions[turn.kept:len(turn.ids)])
    figures = (f'{WHY[column.finish_reason][0].html()} · '
               f'{both(f"{len(positions)} 个 token", f"{len(positions)} tokens")}')
    body = ribbon.shares(positions) + ribbon.strip("crossed", positions, turn.kept, TURN, end_id) if positions else ""
    return article(turn, forced, figures, body, busy=False)
