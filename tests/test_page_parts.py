"""The page's parts without a browser: links, runs, one column's HTML, words, contrast, what imports what."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compare.analysis.repetition import find_loop
from compare.engine.answers import Column
from compare.page.compare.answering import Answering
from compare.page.compare.result import as_markdown, draw_result
from compare.page.page import TABS
from compare.page.shared import words
from compare.page.shared.answer_column import Waiting, answer, draw
from compare.page.shared.examples import GROUPS
from compare.page.shared.held_out import every_row
from compare.page.shared.loaded import lora_parameters
from compare.page.shared.question import LENGTHS, LONGEST_LINK, MOST_EXTRAS, PLAIN, STRENGTHS, Asked
from compare.server.running_answers import Runs

PAGE = Path(__file__).resolve().parent.parent / "compare" / "page"


class Variant:
    def __init__(self, adapter, strength, prompt="chat"):
        self.name, self.adapter, self.strength, self.prompt = adapter or "base", adapter, strength, prompt


def characters(ids) -> str:
    return "".join(map(chr, ids))


def column(text: str, reason: str | None = "length", adapter: str | None = None, prompt: str = "chat"):
    ids = [ord(c) for c in text]
    return Waiting(Variant(adapter, 1.0 if adapter else 0.0, prompt), ids, text, reason, 1.0, find_loop(ids))


def test_a_link_brings_back_what_was_asked():
    from urllib.parse import parse_qsl

    asked = Asked("校训 & <b>?", "", False, (0.5, 2.0), 64, 0.7, 0.9, 12)
    assert Asked.from_link(dict(parse_qsl(asked.link()[1:], keep_blank_values=True))) == asked
    plain = Asked("校训", extras=(0.5, PLAIN))
    assert Asked.from_link(dict(parse_qsl(plain.link()[1:]))) == plain
    assert Asked("长" * LONGEST_LINK).link() is None
    assert Asked.from_link({}) is None and Asked.from_link({"q": "  "}) is None


@given(st.dictionaries(st.sampled_from(["i", "on", "n", "t", "p", "seed", "s", "a"]), st.text(max_size=30)))
def test_no_link_leads_out_of_bounds(params):
    asked = Asked.from_link({"q": "x", **params})
    assert LENGTHS[0] <= asked.max_new_tokens <= LENGTHS[1]
    assert len(asked.extras) <= MOST_EXTRAS and all(
        isinstance(s, str) or STRENGTHS[0] <= s <= STRENGTHS[1] for s in asked.extras)
    assert asked.sampling.seed >= 0


def test_a_visitors_next_question_ends_the_one_before_and_waits_for_it():
    runs = Runs()
    first, other = runs.begin("a"), runs.begin("b")
    threading.Timer(0.2, lambda: runs.end("a", first)).start()
    second = runs.begin("a")
    assert first.over.is_set() and first.superseded and not other.cancelled.is_set()
    runs.stop("a")
    assert second.cancelled.is_set() and not second.superseded
    runs.end("a", second)
    runs.stop("a")  # nothing under way: nothing happens


def test_an_answer_is_escaped_and_its_loop_shaded_from_the_onset():
    html = answer(column("<b>甲" + "乙\n" * 20), characters)
    assert "<b>" not in html and html.startswith("<span>&lt;b&gt;甲</span><mark")
    assert "×20" in html
    assert "<mark" not in answer(column("没有循环"), characters)


def test_a_plain_column_shows_what_it_goes_on_from_and_is_no_measure_of_the_adapter():
    html = draw(column("<b>", "length", prompt="plain"), 2, characters, "<i>问", 0)
    assert '<span class="lens-before">&lt;i&gt;问</span><span>&lt;b&gt;</span>' in html
    assert 'data-text="&lt;b&gt;"' in html and words.PLAIN_TITLE[0].zh in html and words.PLAIN_PROMPT[1].zh in html
    alone = draw_result(Asked("问", extras=(PLAIN,)), [Column(Variant(None, 0.0, form), characters, [30002], "length")
                                                       for form in ("chat", "plain")], characters, {})
    assert 'id="adapted"' not in alone and "lens-said" not in alone  # a base without an adapter


class Engine:
    """Two adapters beside a base."""

    adapters = shown = ["one", "two"]

    def variants(self, strengths):
        return [Variant(None, 0.0), *(Variant(name, s) for name in self.shown for s in strengths)]


def test_of_two_adapters_a_further_column_is_one_and_the_one_that_goes_when_removed():
    """It came at its strength for each adapter, and the sign to remove it stood on the second adapter's own column."""
    asked = Asked("问", extras=(0.5, PLAIN))
    variants = Answering(Engine(), Runs(), {}).variants(asked)
    assert [(v.adapter, v.strength, v.prompt) for v in variants] == [
        (None, 0.0, "chat"), ("one", 1.0, "chat"), ("one", 0.5, "chat"), (None, 0.0, "plain")]
    variants = Answering(Engine(), Runs(), {}).variants(Asked("问", extras=(0.5,)))
    html = draw_result(Asked("问", extras=(0.5,)), [Column(v, characters, [30002]) for v in variants],
                       characters, {})
    removed = {m[1]: m[2] for m in re.finditer(r'id="([\w-]+)" data-index(?:(?!</article>).)*?data-action="remove" '
                                               r'data-value="(\d)"', html, re.S)}
    assert [v.strength for v in variants] == [0, 1, 1, 0.5] and removed == {"column-3": "0"}


@pytest.mark.parametrize("reason", [None, "stop", "length", "loop", "cancelled"])
def test_every_way_to_stop_is_told_in_both_languages(reason):
    html = draw(column("答", reason), 0, characters)
    for text in (words.WHY[reason][0].zh, words.WHY[reason][0].en, words.WHY[reason][1].zh):
        assert text.replace("<", "&lt;").replace(">", "&gt;") in html
    assert f'aria-busy="{str(reason is None).lower()}"' in html


def test_markup_in_an_adapters_name_stays_text():
    assert "<script>" not in draw(column("x", "stop", "<script>"), 1, characters)


def test_markdown_fences_what_the_model_wrote():
    result = {"question": "q", "instruction": "", "sampling": {}, "loaded": {},
              "columns": [{"variant": "base", "strength": 0.0, "text": "```\n# no heading", "finish_reason": "stop",
                           "tokens": 1, "seconds": 1.0}]}
    assert "\n````\n```\n# no heading\n````\n" in as_markdown(result)


def test_lora_parameters_are_counted_from_the_file(tmp_path):
    import torch
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(8, 32), "b": torch.zeros(96, 8)}, tmp_path / "x.safetensors", {"format": "pt"})
    assert lora_parameters(tmp_path / "x.safetensors") == 8 * 32 + 96 * 8


def test_every_label_is_translated():
    """Each Chinese label given to a Gradio component in our tab is in the table."""
    source = "".join((PAGE / name).read_text(encoding="utf-8") for name in ("app.py", "compare.py", "controls.py"))
    places = r"(?<![-\w])label=|info=|placeholder=|gr\.Button\(|gr\.Accordion\(|gr\.Tab\("
    given_labels = re.findall(rf'(?:{places})"([^"]*[一-鿿][^"]*)"', source)
    assert len(given_labels) > 10
    assert not set(given_labels) - set(words.LABELS)
    tabs = {label for tab in TABS for label in tab.LABELS}
    assert set(TABS.values()) <= set(words.LABELS) | tabs


def test_examples_come_in_groups_and_held_out_rows_have_references():
    assert len(GROUPS) >= 5 and all(GROUPS.values())
    assert len(every_row()) > 100 and all(row.output for row in every_row().values())


def luminance(colour: str) -> float:
    parts = [int(colour[i:i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


@pytest.mark.parametrize("theme", [":root", ".dark"])
def test_contrast_is_at_least_aa(theme):
    """WCAG 2.2, 1.4.3: 4.5 to 1 for text; 1.4.11: 3 to 1 for the outline of what has focus."""
    block = (PAGE / "style.css").read_text(encoding="utf-8").split(f"\n{theme} {{", 1)[1].split("}", 1)[0]
    colour = dict(re.findall(r"--lens-([\w-]+): (#[0-9a-f]{6})", block))
    text = {"ink": "paper card base-soft", "quiet": "paper card base-soft", "base-ink": "paper card",
            "adapted-ink": "paper card adapted-soft", "loop-ink": "loop", "bad": "bad-soft", "card": "ink"}
    outlines = {"adapted": "paper card", "base": "card"}
    pairs = [(ink, paper, least) for table, least in ((text, 4.5), (outlines, 3)) for ink in table
             for paper in table[ink].split()]
    for ink, paper, least in pairs:
        light, dark = sorted((luminance(colour[ink]), luminance(colour[paper])), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= least, (theme, ink, paper)


def test_the_page_imports_no_torch():
    for file in PAGE.glob("*.py"):
        assert not re.search(r"^\s*(import|from) torch\b", file.read_text(encoding="utf-8"), re.M), file.name
