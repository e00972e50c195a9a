"""The What changed tab: both answers token by token, the wish to end, where the adapter sits, and its receipt.

Lays out the tab and asks the engine, `compare.analysis.token_shift` and `compare.analysis.adapter_norms`; what they
say is drawn by ribbon.py, curve.py and heat.py. Words are Chinese and English, of which the language switch shows one.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from html import escape
from typing import TYPE_CHECKING

import gradio as gr

from compare.analysis.adapter_norms import anatomy
from compare.analysis.token_shift import Shift, shift
from compare.engine.interface import BASE, Sampling, Variant
from compare.page.changed import adapter_map as heat
from compare.page.changed import token_ribbon as ribbon
from compare.page.changed.turned_answer import Crossing
from compare.page.shared.api import endpoint
from compare.page.shared.error_text import Told
from compare.page.shared.html import own, read
from compare.page.shared.question import FIRST_INSTRUCTION, FIRST_QUESTION, LENGTHS, LONGEST_TEXT, STRENGTHS
from compare.page.shared.words import BROKEN, both, heading
from lens.errors import BadQuestion, LensError

if TYPE_CHECKING:  # the page is given its engine, and loads none
    from compare.engine.engine import Engine

section = partial(own, css_template=read("changed/tab.css"), elem_classes=["lens-own", "lens-changed"])
LENGTH = 128  # tokens an answer may have
BETWEEN = 0.15  # seconds between two drawings of answers under way
AT_ONCE = 4  # questions compared at once; more visitors wait in Gradio's queue
LABELS = {"看看变了什么": "Show what changed", "哪个适配器": "Which adapter"}
NO_ADAPTER = ("没有加载适配器，也就没有改变可看。用 <code>--adapter</code> 加载一个。",
              "No adapter is loaded, so there is no change to show. Load one with <code>--adapter</code>.")


@dataclass(frozen=True)
class Inputs:
    """The tab's question and instruction, for whoever hands a question over when the tab is opened, and the event
    that then shows what changed: `button.click`'s function with its inputs and outputs, as `.then(**show)`."""

    question: gr.Textbox
    instruction: gr.Textbox
    show: dict


@dataclass(frozen=True)
class Explaining:
    """What an engine's adapters changed, as a `Shift` and as HTML. The page's own question is worked out once."""

    engine: Engine
    known: dict[str, str] = field(default_factory=dict)
    maps: dict[str, str] = field(default_factory=dict)

    def variants(self, adapter: str, strength: float = 1.0) -> list:
        """Base and that adapter ("": the first). Raises BadQuestion for one that is not loaded."""
        names = list(self.engine.adapters)
        name = adapter or (names[0] if names else "")
        if name not in names:
            raise BadQuestion(f"adapter is {name!r}; allowed: {', '.join(names) or 'none, as none is loaded'}")
        return [BASE, Variant.of(name, strength)]

    def columns(self, question: str, instruction: str, variants: Sequence, length: int) -> Iterator[Sequence]:
        """Both columns as they grow. Leaving the iterator cancels."""
        return self.engine.compare(question, instruction, variants, Sampling(max_new_tokens=length))

    def shift(self, question: str, instruction: str, columns: Sequence) -> Shift:
        return shift(self.engine, self.engine.prompt.encode(question, instruction), columns)

    def score(self, question: str, instruction: str = "", adapter: str = "", strength: float = 1.0,
              max_new_tokens: int = LENGTH) -> dict:
        """What a LoRA adapter changed in the answer to a question: both greedy answers under both models.

        Args:
            question: what is asked
            instruction: a system turn before the question
            adapter: the name of a loaded adapter, see `adapters` (default: the first)
            strength: how strongly it acts, -0.5 to 2
            max_new_tokens: the longest an answer may be, 8 to 512
        Returns:
            `question`, `instruction`, `variant`, `parts_at` (index of the first token in which the answers differ),
            `sentence` ("en", "zh") and `answers` ("base", "adapted"), each with its `summary` and its `tokens`: text,
            category, KL in nats, and each model's log-probability (nats), rank, probability of ending and top 5
        """
        try:
            for name, value, (low, high) in (("strength", strength, STRENGTHS),
                                             ("max_new_tokens", max_new_tokens, LENGTHS)):
                if not low <= value <= high:
                    raise BadQuestion(f"{name} is {value}; allowed: {low} to {high}")
            *_, columns = self.columns(question, instruction, self.variants(adapter, strength), max_new_tokens)
            found = self.shift(question, instruction, columns)
        except LensError as err:
            raise gr.Error(str(err), print_exception=False) from err
        return {"question": question, "instruction": instruction, **found.as_dict()}

    def page(self, question: str, instruction: str, adapter: str = "") -> Iterator[tuple]:
        """For one visitor: (the shift's HTML, the adapter's), first the answers while they grow."""
        key, drawn = repr((question, instruction, adapter)), 0.0
        if key in self.known:
            yield self.known[key], self.where(adapter)
            return
        try:
            variants = self.variants(adapter)
            yield ribbon.writing(("", "")), self.where(adapter)
            for columns in self.columns(question, instruction, variants, LENGTH):
                if time.monotonic() - drawn >= BETWEEN:
                    drawn = time.monotonic()
                    yield ribbon.writing([c.text for c in columns]), gr.skip()
            found = ribbon.draw(self.shift(question, instruction, columns), self.engine.tokenizer.eos_token_id,
                                {"question": question, "instruction": instruction, "adapter": adapter})
            if (question, instruction) == (FIRST_QUESTION, FIRST_INSTRUCTION):
                self.known[key] = found
            yield found, gr.skip()
        except LensError as err:
            yield ribbon.problem(Told.of(err)), gr.skip()
        except Exception:
            yield ribbon.problem(BROKEN), gr.skip()
            raise

    def where(self, adapter: str = "") -> str:
        """Heat map and receipt of one adapter; measured when first asked for."""
        name = adapter or next(iter(self.engine.adapters))
        if name not in self.maps:
            self.maps[name] = heat.draw(anatomy(self.engine.model, name)) + receipt(self.engine, name)
        return self.maps[name]


# What a receipt's fields prove: Chinese and English, with a hole for the value.
PROOFS = {
    "sha256": ("适配器文件的指纹：指纹相同，文件就相同",
               "fingerprint of the adapter's file: the same fingerprint, the same file"),
    "rank": ("秩 r：旁路有多宽", "the rank r: how wide the bypass is"),
    "modules": ("改动了多少个线性层", "linear layers it changes"),
    "keys_matched": ("文件里的张量，已逐个数对上", "tensors of the file that are on the model, value for value"),
    "keys_refused": ("文件里没有对上的张量，应为 0", "tensors of the file that are not; should be 0"),
    "nonzero_b": ("不全为 0 的 B 矩阵：若都是 0，就什么也没改",
                  "B matrices that are not all zero: if all were, nothing would change"),
    "max_logit_change": ("在一段固定的探针上，logit（未归一的打分）最多变了多少",
                         "largest change of a logit, a raw score, on a fixed probe"),
    "base_difference": ("原模型一列与从没碰过的原模型的最大差别：舍入误差",
                        "largest difference between the base column and the untouched base: rounding"),
    "base_exact": ("原模型一列确实就是原模型", "the base column is the base itself"),
    "changes_anything": ("适配器确实改变了什么", "the adapter does change something"),
}
TRICK = ("收据：怎么知道这不是障眼法？", "Receipt: how do we know this is no trick?")


def receipt(engine, name: str) -> str:
    """One adapter's proof, folded. `engine.receipts`: name → Receipt; where there is none, what the
    files say."""
    found = getattr(engine, "receipts", {}).get(name)
    files = engine.adapters[name]
    facts = found.as_dict() if found else {"sha256": files.sha256, "rank": files.r}
    rows = "".join(f"<div><dt><code>{key}</code></dt><dd><b>{value(facts[key])}</b>{both(*PROOFS[key])}</dd></div>"
                   for key in PROOFS if key in facts)
    problem = f'<p class="problem" role="alert">{escape(facts["problem"])}</p>' if facts.get("problem") else ""
    sure = both("检查全部通过", "all checks passed") if found and not problem else ""
    return (f'{problem}<details class="receipt"><summary><b>{both(*TRICK)}</b> '
            f'<span class="badge">{"✓ " * bool(sure)}{sure}</span></summary><dl>{rows}</dl></details>')


def value(fact: object) -> str:
    """A figure of the receipt, for people."""
    if isinstance(fact, bool):
        return f'{"✓" if fact else "✗"} {both("是" if fact else "否", "yes" if fact else "no")}'
    if fact is None:
        return both("不是有限数", "not finite")
    return f"{fact:.3g}" if isinstance(fact, float) else f'<span class="hash">{escape(str(fact))}</span>'


def turned(view: gr.HTML, crossing: Crossing) -> None:
    """Answers that the visitor turns in `view`: they come in a hidden piece, from which crossing.js takes them."""
    answer = own("", html_template="", js_on_load=read("changed/turned_answer.js"), visible="hidden",
                 elem_id="changed-crossing")
    quiet = {"api_visibility": "private", "show_progress": "hidden"}
    view.cross(crossing.page, None, answer, trigger_mode="multiple", concurrency_limit=AT_ONCE,
               concurrency_id="changed", **quiet)
    view.halt(crossing.stop, None, None, queue=False, **quiet)


def build(engine) -> Inputs | None:
    """Lay the tab out inside the current Blocks; None without an adapter, where there is nothing to show."""
    section(heading("适配器改变了哪些选择？", "Which choices did the adapter change?",
                    "同一个问题，两个回答，两个模型逐个 token 对照。",
                    "One question, two answers, token by token under both models."))
    if not engine.adapters:
        section(f'<p class="empty">{both(*NO_ADAPTER)}</p>')
        return None
    explaining, names = Explaining(engine), list(engine.adapters)
    with gr.Row(equal_height=True, elem_classes="lens-ask"):
        question = gr.Textbox(FIRST_QUESTION, label="问题", show_label=False, container=False, lines=1, max_lines=4,
                              scale=6, max_length=LONGEST_TEXT, elem_id="changed-question")
        ask = gr.Button("看看变了什么", variant="primary", scale=1, min_width=150, elem_id="changed-ask")
    with gr.Accordion("指令（系统）", open=False, elem_id="changed-fold"):
        instruction = gr.Textbox(FIRST_INSTRUCTION, label="指令", max_length=LONGEST_TEXT,
                                 elem_id="changed-instruction")
    adapter = gr.Dropdown(names, value=names[0], label="哪个适配器", visible=len(names) > 1, elem_id="changed-adapter")
    view = section(ribbon.writing(("", "")), js_on_load=read("changed/token_ribbon.js"), elem_id="changed-view")
    turned(view, Crossing(engine))
    where = section("", js_on_load=read("changed/adapter_map.js"), elem_id="changed-where")
    show = {"fn": explaining.page, "inputs": [question, instruction, adapter], "outputs": [view, where],
            "api_visibility": "private", "concurrency_limit": AT_ONCE, "concurrency_id": "changed",
            "show_progress": "hidden", "trigger_mode": "always_last"}
    gr.on([ask.click, question.submit, adapter.input], **show)
    endpoint(explaining.score, dict, concurrency_limit=AT_ONCE, concurrency_id="changed")
    return Inputs(question, instruction, show)
