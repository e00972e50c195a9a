"""One answer looked into, for the page and for programs: which parts of the adapter it needs, and what both models
would say after each layer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial

import gradio as gr

from compare.analysis.layer_lens import unreadable
from compare.analysis.token_shift import whole_answer
from compare.engine.answers import compare
from compare.engine.interface import Engine, GivenAnswer, Question, Sampling, Variant
from compare.page.changed.answer_map import Written, draw_answer_map
from compare.page.changed.answer_map import draw_waiting as draw_map_waiting
from compare.page.changed.layer_table import draw_cannot, draw_layers
from compare.page.changed.layer_table import draw_waiting as draw_layers_waiting
from compare.page.changed.turned_answer import draw_error
from compare.page.shared.api import error_as_answer
from compare.page.shared.column_list import AskedColumn, first_adapter, loaded_adapter
from compare.page.shared.examples import first_question
from compare.page.shared.request import ComparisonRequest, checked_texts
from compare.page.shared.templates import as_json
from compare.page.shared.updates import updates
from lens.chat import valid_text
from lens.errors import BadSetting

LENGTH, LONGEST = 128, 2048  # tokens that an answer may have; that a browser may send
FIRST = 16  # tokens of an answer that a program gets layer by layer unless it names them
QUICK = 50_000_000  # parameters; a larger model on a processor looks only when it is asked to


@dataclass(frozen=True)
class Looked:
    """An answer of the page, as a browser sends it back: `ids` after the question, `at` the token looked at."""

    question: str
    instruction: str
    adapter: str
    ids: Sequence[int]
    at: int = 0

    @classmethod
    def read(cls, sent: object) -> Looked:
        """From a browser, which may send anything. Raises LensError."""
        sent = sent if isinstance(sent, dict) else {}
        question, instruction, adapter = checked_texts(
            **{name: sent.get(name) for name in ("question", "instruction", "adapter")})
        ids, at = sent.get("ids"), sent.get("at", 0)
        if not isinstance(ids, list) or not all(type(i) is int for i in ids) or len(ids) > LONGEST:
            raise BadSetting("answer-ids-expected", value=repr(ids)[:80], most=LONGEST)
        if type(at) is not int:
            raise BadSetting("list-expected", name="at", value=repr(at)[:80])
        return cls(question, instruction, adapter, tuple(ids), at)

    def link(self, part: Written, usual: str) -> str | None:
        """To the same question, answered by the whole adapter and by that part of it; None where it is too long.
        `usual`: the page's own instruction."""
        whole = AskedColumn(self.adapter)
        return ComparisonRequest(self.question, self.instruction, columns=(whole, replace(whole, **part))).link(usual)

    def given(self, engine: Engine) -> GivenAnswer:
        return given_ids(engine, Question(self.question, self.instruction),
                         Variant.of(loaded_adapter(engine, self.adapter).name), self.ids)


def given_ids(engine: Engine, question: Question, variant: Variant, ids: Sequence[int]) -> GivenAnswer:
    [prompt_ids] = engine.prompts(question, [variant], Sampling(1))
    return GivenAnswer(prompt_ids, list(ids), variant)


@dataclass(frozen=True)
class InsideAnswers:
    """Answers of one engine's adapters, looked into."""

    engine: Engine

    @property
    def by_layers(self) -> bool:
        return "by-layer" in self.engine.abilities

    def first(self, looked: Looked) -> Iterator[tuple[str, str]]:
        """Yield a new answer's map and layers: buttons that ask for them, and at once what takes but a moment."""
        if not looked.ids:
            yield "", ""
            return
        facts, asked = self.engine.facts, as_json(asdict(looked))
        cannot = "" if self.by_layers else draw_cannot(unreadable(facts.base_name))
        yield draw_map_waiting(asked), cannot or draw_layers_waiting(asked)
        if facts.device == "cpu" and facts.parameters >= QUICK:
            return
        [needed] = updates(lambda run: self.answer_map(looked), draw_error)
        yield needed, *([cannot] if cannot else updates(lambda run: self.layers(looked), draw_error))

    def answer_map(self, looked: Looked) -> Iterator[str]:
        link = partial(looked.link, usual=first_question(self.engine)[1])
        yield draw_answer_map(self.engine.layer_map(looked.given(self.engine)), link)

    def layers(self, looked: Looked) -> Iterator[str]:
        yield draw_layers(self.engine.by_layer(looked.given(self.engine), [looked.at]))

    def page_map(self, event: gr.EventData) -> Iterator[str]:
        yield from updates(lambda run: self.answer_map(Looked.read(event._data)), draw_error)

    def page_layers(self, event: gr.EventData) -> Iterator[str]:
        yield from updates(lambda run: self.layers(Looked.read(event._data)), draw_error)

    def answer(self, question: str, instruction: str, adapter: str, part: dict, max_new_tokens: int,
               text: str) -> tuple[Question, GivenAnswer]:
        """What a program asks about: the adapter's greedy answer, or a text of the program's own. `part`: strength,
        layers and modules, as a column has them."""
        question, instruction, text = checked_texts(question=question, instruction=instruction, text=text)
        first = first_adapter(self.engine)
        name = first.name if first and adapter == "" else loaded_adapter(self.engine, adapter).name
        variant = AskedColumn.read({"adapter": name, **part}).variant(self.engine)
        put, sampling = Question(question, instruction), Sampling(max_new_tokens)
        if text:
            return put, given_ids(self.engine, put, variant, self.engine.tokens.encode(valid_text(text)))
        *_, [column] = compare(self.engine, put, [variant], sampling)
        return put, GivenAnswer(column.prompt_ids, whole_answer(column, self.engine.tokens.end_id), variant)

    @error_as_answer
    def layer_map(self, question: str, instruction: str = "", adapter: str = "", strength: float = 1.0,
                  max_new_tokens: int = LENGTH, text: str = "", layers: str = "", modules: str = "") -> dict:
        """Which parts of a LoRA adapter an answer needs, by layer: what each adds to its log-probability when it
        alone is on, and what is lost when it alone is off.

        Args:
            question: what is asked
            instruction: a system turn before the question
            adapter: the name of a loaded adapter, see `adapters` (default: the first)
            strength: how strongly it acts, -10 to 10
            max_new_tokens: the longest the answer may be, 1 to 4096
            text: instead of the adapter's greedy answer and its end, a text to look at
            layers: where alone the adapter is on, such as "3-5" (default: all)
            modules: likewise, such as "attention", "mlp" or a module's name (default: all)
        Returns:
            `question`, `instruction`, `answer`, `variant`, `tokens`, `base` and `adapted` (log-probability of the
            answer, nats), `parts`, each with `layer`, `kind` ("attention", "mlp", null for the whole layer), `gained`
            and `lost` (nats), and `sentence` ("en", "zh"); what cannot be answered is {"error": {"code", "message",
            "message_zh"}}
        """
        part = {"strength": strength, "layers": layers, "modules": modules}
        put, given = self.answer(question, instruction, adapter, part, max_new_tokens, text)
        return {**self.said(put, given), **self.engine.layer_map(given).as_dict()}

    @error_as_answer
    def by_layer(self, question: str, instruction: str = "", adapter: str = "", strength: float = 1.0,
                 max_new_tokens: int = LENGTH, text: str = "", positions: list[int] | None = None,
                 layers: str = "", modules: str = "") -> dict:
        """What the base and the adapted model would say after each layer, at tokens of an answer (the logit lens), and
        how far apart their hidden states are.

        Args:
            question: what is asked
            instruction: a system turn before the question
            adapter: the name of a loaded adapter, see `adapters` (default: the first)
            strength: how strongly it acts, -10 to 10
            max_new_tokens: the longest the answer may be, 1 to 4096
            text: instead of the adapter's greedy answer and its end, a text to look at
            positions: which of its tokens, from 0, 64 at most (default: the first 16)
            layers: where alone the adapter is on, such as "3-5" (default: all)
            modules: likewise, such as "attention", "mlp" or a module's name (default: all)
        Returns:
            `question`, `instruction`, `answer`, `variant`, `prompt_tokens`, `tokens`, each with `index`, `token_id`,
            `text`, `changes` of its state after each layer and for `base` and `adapted` the layer from which the
            final choice leads (`leads_from`) and of each of `layers` the five likeliest (`top`) and the final
            choice's `rank` and `probability`; `changes`, the largest `by_layer`, in prompt and answer, and
            `by_position`; and `sentence` ("en", "zh"); what cannot be answered is {"error": {"code", "message",
            "message_zh"}}
        """
        if positions is not None and not (isinstance(positions, list) and all(type(i) is int for i in positions)):
            raise BadSetting("list-expected", name="positions", value=repr(positions)[:80])
        part = {"strength": strength, "layers": layers, "modules": modules}
        put, given = self.answer(question, instruction, adapter, part, max_new_tokens, text)
        wanted = list(range(min(FIRST, len(given.answer_ids)))) if positions is None else positions
        return {**self.said(put, given), **self.engine.by_layer(given, wanted).as_dict()}

    def said(self, question: Question, given: GivenAnswer) -> dict:
        return {"question": question.text, "instruction": question.instruction,
                "answer": self.engine.tokens.decode(given.answer_ids)}
