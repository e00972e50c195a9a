"""The What changed tab: both answers token by token, the wish to end, where the adapter sits, and its receipt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import gradio as gr

from compare.analysis.token_shift import Shift, whole_answer
from compare.engine.answers import compare
from compare.engine.interface import BASE, RANGES, Engine, Question, Sampling, Variant
from compare.page.changed.adapter_map import draw_map
from compare.page.changed.adapter_matrix import MOST, draw_matrix
from compare.page.changed.look_inside import InsideAnswers, Looked
from compare.page.changed.token_ribbon import draw_shift, draw_writing
from compare.page.changed.turned_answer import TurnedAnswers, draw_error
from compare.page.shared.api import endpoint, error_as_answer
from compare.page.shared.column_list import columns_asked, first_adapter, loaded_adapter
from compare.page.shared.examples import first_question
from compare.page.shared.model_sizes import LINEAR_LAYERS
from compare.page.shared.request import checked_texts
from compare.page.shared.templates import draw, piece, read, tab_piece
from compare.page.shared.updates import paced, updates
from compare.server.running_answers import Run
from lens.errors import BadSetting, LensError

LENGTH = 128  # tokens an answer may have
AT_ONCE = 4  # questions compared at once; more visitors wait in Gradio's queue


@dataclass(frozen=True)
class Inputs:
    """The tab's question and instruction, for whoever hands a question over when the tab is opened, and the event
    that then shows what changed: `button.click`'s function with its inputs and outputs, as `.then(**show)`."""

    question: gr.Textbox
    instruction: gr.Textbox
    show: dict


@dataclass(frozen=True)
class Changes:
    """What an engine's adapters changed, as a `Shift` and as HTML. The page's own question is worked out once."""

    engine: Engine
    known: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    maps: dict[tuple[str, str], str] = field(default_factory=dict)  # by name and sha256, as the following
    matrices: dict[tuple[tuple[str, str], ...], str] = field(default_factory=dict)

    def name(self, adapter: str) -> str:
        """That adapter's, or the first one's for "". Raises BadSetting for one that is not loaded."""
        first = first_adapter(self.engine)
        return first.name if first and not adapter else loaded_adapter(self.engine, adapter).name

    @error_as_answer
    def score(self, question: str, instruction: str = "", adapter: str = "", strength: float = 1.0,
              max_new_tokens: int = LENGTH, columns: list[dict] | None = None) -> dict:
        """What a LoRA adapter changed in the answer to a question: both greedy answers under both models.

        Args:
            question: what is asked
            instruction: a system turn before the question
            adapter: the name of a loaded adapter, see `adapters` (default: the first)
            strength: how strongly it acts, -10 to 10
            max_new_tokens: the longest an answer may be, 1 to 4096
            columns: instead of `adapter` and `strength`, several to look at, as `compare` takes them; each beside the
                base that is asked in the same way
        Returns:
            `question`, `instruction`, `variant`, `parts_at` (index of the first token in which the answers differ),
            `sentence` ("en", "zh") and `answers` ("base", "adapted"), each with its `summary` and its `tokens`: text,
            category, KL in nats, and each model's log-probability (nats), rank, probability of ending and top 5;
            with `columns`, a list of the same under `columns`;
            what cannot be answered is {"error": {"code", "message", "message_zh"}}
        """
        put = Question(*checked_texts(question=question, instruction=instruction))
        said = {"question": put.text, "instruction": put.instruction}
        if columns is None:
            RANGES["strength"].check("strength", strength)
            [shift] = self.shifts(put, [Variant.of(self.name(adapter), strength)], max_new_tokens)
            return {**said, **shift.as_dict()}
        if adapter or strength != 1:
            raise BadSetting("columns-beside", name="adapter" if adapter else "strength")
        shifts = self.shifts(put, columns_asked(self.engine, columns), max_new_tokens)
        return {**said, "columns": [shift.as_dict() for shift in shifts]}

    def shifts(self, question: Question, variants: Sequence[Variant], max_new_tokens: int) -> list[Shift]:
        """Of each variant against the base that is asked in its form; all answer side by side."""
        bases = {v.prompt: replace(BASE, name=f"base ({v.prompt})", prompt=v.prompt) for v in variants}
        *_, grown = compare(self.engine, question, [*bases.values(), *variants], Sampling(max_new_tokens))
        against = dict(zip(bases, grown, strict=False))
        return [Shift.of(self.engine, [against[c.variant.prompt], c]) for c in grown[len(bases):]]

    def page(self, question: str, instruction: str, adapter: str = "") -> Iterator[tuple]:
        """For one visitor: the HTML of (the shift, the adapter, the answer's map, its layers), first the answers while
        they grow."""
        yield from updates(lambda run: self.stream(question, instruction, adapter, run),
                           lambda err: (draw_error(err), gr.skip(), "", ""))

    def stream(self, question: str, instruction: str, adapter: str, run: Run) -> Iterator[tuple]:
        name = self.name(adapter)
        key = repr((question, instruction, name, self.engine.adapters[name].sha256))
        if key in self.known:
            shown, *known = self.known[key]
            yield shown, self.where(name), *known
            return
        yield draw_writing(), self.where(name), "", ""
        columns: Sequence = ()
        for columns in paced(compare(self.engine, Question(question, instruction), [BASE, Variant.of(name)],
                                     Sampling(LENGTH), run.cancelled)):
            yield draw_writing([c.text for c in columns]), gr.skip(), gr.skip(), gr.skip()
        shift, end_id, looks = Shift.of(self.engine, columns), self.engine.tokens.end_id, InsideAnswers(self.engine)
        asked = {"question": question, "instruction": instruction, "adapter": name}
        found = draw_shift(shift, end_id, asked, looks.by_layers, self.engine.facts.end_token)
        yield found, gr.skip(), gr.skip(), gr.skip()
        ids, parts_at = whole_answer(columns[1], end_id), shift.parts_at or 0
        for inside in looks.first(Looked(**asked, ids=ids, at=parts_at)):
            yield gr.skip(), gr.skip(), *inside
        if (question, instruction) == first_question(self.engine):
            self.known[key] = (found, inside[0], inside[1])

    def where(self, name: str) -> str:
        """Heat map and receipt of one adapter, and how all that are loaded are related; each measured when first asked
        for."""
        adapter = self.engine.adapters[name]
        if (key := (name, adapter.sha256)) not in self.maps:
            drawn = draw_map(self.engine.adapter_norms(name), self.engine.facts.linears or LINEAR_LAYERS)
            self.maps[key] = drawn + draw("changed/view", "receipt", facts=adapter.receipt.as_dict())
        return self.maps[key] + self.related()

    def related(self) -> str:
        """How the first of the loaded adapters are related."""
        key = tuple((adapter.name, adapter.sha256) for adapter in self.engine.adapters.values())
        if len(key) < 2:
            return ""
        names = [name for name, _ in key]
        if key not in self.matrices:
            try:
                self.matrices[key] = draw_matrix(self.engine.adapter_pairs(names[:MOST]), len(names[MOST:]))
            except LensError as err:  # adapters of two shapes, a file that is gone: the rest of the tab is worth having
                return draw_error(err)
        return self.matrices[key]


def with_turned_answers(view: gr.HTML, turned: TurnedAnswers) -> None:
    """Answers that the visitor turns in `view`: they come in a hidden piece, from which turned_answer.js takes them."""
    answer = piece(html_template="", js_on_load=read("changed/turned_answer.js"), visible="hidden",
                   elem_id="changed-crossing")
    quiet = {"api_visibility": "private", "show_progress": "hidden"}
    view.cross(turned.page, None, answer, trigger_mode="multiple", concurrency_limit=AT_ONCE,
               concurrency_id="changed", **quiet)
    view.halt(turned.stop, None, None, queue=False, **quiet)


def with_inside(view: gr.HTML, inside: InsideAnswers) -> tuple[gr.HTML, gr.HTML]:
    """The places of an answer's layers and of its map, and what asks for them: `view`'s closer look, and buttons."""
    places = [tab_piece("changed", css_template=read("changed/tab.css"), elem_id=f"changed-{name}",
                        js_on_load=read(f"changed/{script}.js"))
              for name, script in (("layers", "layer_table"), ("map", "answer_map"))]
    layers, answer_map = places
    shared = {"api_visibility": "private", "show_progress": "hidden", "concurrency_limit": AT_ONCE,
              "concurrency_id": "changed"}
    view.inside(inside.page_layers, None, layers, trigger_mode="always_last", **shared)
    layers.inside(inside.page_layers, None, layers, **shared)
    answer_map.measure(inside.page_map, None, answer_map, **shared)
    return layers, answer_map


def build(engine: Engine) -> Inputs | None:
    """Lay the tab out inside the current Blocks; None without an adapter, where there is nothing to show."""
    tab_piece("changed", draw("changed/view", "heading"), css_template=read("changed/tab.css"))
    if not engine.adapters:
        tab_piece("changed", draw("changed/view", "no_adapter"), css_template=read("changed/tab.css"))
        return None
    changes, names, first = Changes(engine), list(engine.adapters), first_question(engine)
    with gr.Row(equal_height=True, elem_classes="lens-ask"):
        question = gr.Textbox(first[0], label="问题", show_label=False, container=False, lines=1, max_lines=4,
                              scale=6, elem_id="changed-question")
        ask = gr.Button("看看变了什么", variant="primary", scale=1, min_width=150, elem_id="changed-ask")
    with gr.Accordion("指令（系统）", open=False, elem_id="changed-fold"):
        instruction = gr.Textbox(first[1], label="指令", elem_id="changed-instruction")
    adapter = gr.Dropdown(names, value=names[0], label="哪个适配器", visible=len(names) > 1, elem_id="changed-adapter")
    view = tab_piece("changed", draw_writing(), css_template=read("changed/tab.css"),
                     js_on_load=read("changed/token_ribbon.js"), elem_id="changed-view")
    inside = InsideAnswers(engine)
    with_turned_answers(view, TurnedAnswers(engine))
    layers, answer_map = with_inside(view, inside)
    where = tab_piece("changed", css_template=read("changed/tab.css"), elem_id="changed-where",
                      js_on_load=read("changed/adapter_map.js", "changed/answer_map.js"))
    show = {"fn": changes.page, "inputs": [question, instruction, adapter],
            "outputs": [view, where, answer_map, layers], "api_visibility": "private",
            "concurrency_limit": AT_ONCE, "concurrency_id": "changed", "show_progress": "hidden",
            "trigger_mode": "always_last"}
    gr.on([ask.click, question.submit, adapter.input], **show)
    for answer in (changes.score, inside.layer_map, inside.by_layer):
        endpoint(answer, dict, concurrency_limit=AT_ONCE, concurrency_id="changed")
    return Inputs(question, instruction, show)
