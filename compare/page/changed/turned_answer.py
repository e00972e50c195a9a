"""An answer turned at one of its tokens, which goes on under either model beside the one it left.

Reads what token_ribbon.js sends, asks the engine, draws the answer while it grows and then token by token;
turned_answer.js puts the drawing in its place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import gradio as gr
from markupsafe import Markup

from compare.analysis.token_shift import whole_answer
from compare.engine.answers import compare
from compare.engine.interface import BASE, Continuation, Engine, Question, Variant
from compare.page.changed.token_ribbon import ribbon, stand_in
from compare.page.shared.column_list import loaded_adapter
from compare.page.shared.request import checked_texts
from compare.page.shared.templates import draw
from compare.page.shared.updates import paced, updates
from compare.server.running_answers import Run, Runs
from lens.errors import BadQuestion, LensError

LENGTH, AFTER, LONGEST = 128, 64, 512  # tokens: of the whole answer, at least after the turn, at most in all
MODELS = ("base", "adapted")


@dataclass(frozen=True)
class Turn:
    """Of whose answer, to what, and where: it begins with `ids`, of which the first `kept` are its own and one more
    may be forced. `by`: the model that goes on, one of `MODELS`."""

    question: str
    instruction: str
    adapter: str
    ids: tuple[int, ...]
    kept: int
    by: str

    @classmethod
    def read(cls, sent: object) -> Turn:
        """From a browser, which may send anything. Raises LensError."""
        sent = sent if isinstance(sent, dict) else {}
        question, instruction, adapter = checked_texts(
            **{name: sent.get(name) for name in ("question", "instruction", "adapter")})
        ids, kept, by = (sent.get(name) for name in ("ids", "kept", "by"))
        if not isinstance(ids, list) or not all(type(i) is int for i in ids) or len(ids) > LONGEST - AFTER:
            raise BadQuestion("turn-ids", most=LONGEST - AFTER)
        if type(kept) is not int or not len(ids) - 1 <= kept <= len(ids) or kept < 0 or by not in MODELS:
            raise BadQuestion("turn-place", kept=repr(kept)[:40], ids=len(ids), by=repr(by)[:40])
        return cls(question, instruction, adapter, tuple(ids), kept, by)

    @property
    def sampling(self) -> Continuation:
        return Continuation(max(LENGTH, len(self.ids) + AFTER), prefix_ids=self.ids)

    def draw(self, macro: str, forced: str, **values: object) -> Markup:
        """`forced`: the text of the forced token, "" where none is."""
        return draw("changed/token_ribbon", macro, by=self.by, kept=self.kept, forces=len(self.ids) > self.kept,
                    forced=stand_in(forced) or forced, **values)

    def growing(self, texts: Sequence[str]) -> Markup:
        """The answer so far, from its tokens' texts."""
        texts = list(texts)
        if texts:
            texts[-1] = texts[-1].rstrip("\ufffd")  # a character that is not whole yet
        taken, forced, since = ("".join(part) for part in
                                (texts[:self.kept], texts[self.kept:len(self.ids)], texts[len(self.ids):]))
        return self.draw("growing", forced, texts={"taken": taken, "forced": forced, "since": since})


def draw_error(error: LensError) -> Markup:
    return draw("changed/token_ribbon", "problem", error=error)


@dataclass(frozen=True)
class TurnedAnswers:
    """Turned answers over one engine, one at a time for each visitor."""

    engine: Engine
    runs: Runs = field(default_factory=Runs)

    def page(self, event: gr.EventData, request: gr.Request) -> Iterator[str]:
        """Drawings of the answer that the visitor asked for; an earlier one of theirs ends."""
        asked_at = event._data.get("asked_at") if isinstance(event._data, dict) else None
        yield from updates(lambda run: self.stream(Turn.read(event._data), run), draw_error, self.runs, request,
                           asked_at if type(asked_at) in (int, float) else None)

    def stop(self, request: gr.Request) -> None:
        self.runs.stop(request.session_hash or "")

    def stream(self, turn: Turn, run: Run) -> Iterator[str]:
        """First where it turns, then the answer as it grows, then its tokens under both models."""
        tokens, adapted = self.engine.tokens, Variant.of(loaded_adapter(self.engine, turn.adapter).name)
        yield turn.growing([piece.text for piece in tokens.spell(turn.ids)])
        answer = compare(self.engine, Question(turn.question, turn.instruction),
                         [BASE if turn.by == "base" else adapted], turn.sampling, run.cancelled)
        columns: Sequence = ()
        for columns in paced(answer, run):
            yield turn.growing([piece.text for piece in tokens.spell(columns[0].token_ids)])
        if run.superseded:
            return
        column = columns[0]
        ids = whole_answer(column, tokens.end_id)
        positions = self.engine.score(column.prompt_ids, [ids], BASE, adapted)[0] if ids else ()
        forced = "".join(p.text for p in positions[turn.kept:len(turn.ids)])
        yield turn.draw("finished", forced, reason=column.finish_reason, r=ribbon(positions, tokens.end_id))
