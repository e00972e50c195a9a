"""The page's parts without a browser: links, runs, one column's HTML, words, contrast, what imports what."""

from __future__ import annotations

import re
import shutil
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import pytest
from conftest import ADAPTER
from one_tab import StandInEngine, column, loaded
from safetensors.torch import load_file

from compare.engine.interface import BASE, PLAIN, LoadedAdapter, Variant
from compare.page.compare.answering import Answering
from compare.page.compare.export import as_markdown
from compare.page.compare.result import draw_result
from compare.page.frame.words import labels
from compare.page.page import TABS
from compare.page.shared import updates as page_updates
from compare.page.shared.answer_column import draw_column
from compare.page.shared.api import as_dict
from compare.page.shared.column_list import MOST_COLUMNS, AskedColumn, shown_columns
from compare.page.shared.held_out import every_row
from compare.page.shared.request import ComparisonRequest
from compare.page.shared.templates import as_json, draw, template
from compare.page.shared.updates import paced, updates
from compare.server.running_answers import REMEMBERED, Run, Runs
from lens.adapter.directory import read_adapter
from lens.errors import BadQuestion, LensError, Note

PAGE = Path(__file__).resolve().parent.parent / "compare" / "page"
LENS = Variant.of("lens")


def test_a_visitors_next_question_ends_the_one_before_and_waits_for_it():
    runs = Runs()
    first, other = runs.begin("a"), runs.begin("b")
    threading.Timer(0.2, first.end).start()
    second = runs.begin("a")
    assert first.over.is_set() and first.superseded and not other.cancelled.is_set()
    runs.stop("a")
    assert second.cancelled.is_set() and not second.superseded
    second.end()
    runs.stop("a")  # nothing under way: nothing happens


def test_a_question_that_was_overtaken_on_the_way_takes_nothing_from_the_later_one():
    runs = Runs()
    later = runs.begin("a", asked_at=2.0)
    overtaken = runs.begin("a", asked_at=1.0)
    assert overtaken.superseded and overtaken.over.is_set() and not later.superseded
    later.end()
    assert runs.begin("a", asked_at=1.5).superseded  # also when the later one is over
    assert not runs.begin("b", asked_at=1.0).superseded and not runs.begin("a").superseded


def test_of_visits_that_are_over_the_oldest_are_forgotten():
    runs = Runs()
    lasting = runs.begin("lasting")
    for visit in range(REMEMBERED + 50):
        runs.begin(str(visit)).end()
    assert len(runs.by_visit) <= REMEMBERED + 1 and runs.by_visit["lasting"] is lasting


def test_who_has_asked_again_is_sent_nothing_more_of_the_earlier_answer():
    runs, request, sent = Runs(), SimpleNamespace(session_hash="a"), []

    def start(run):
        yield "first"
        yield "second" if run.superseded else "never"

    under_way = updates(start, str, runs, request, 1.0)
    assert next(under_way) == "first"
    again = updates(lambda run: iter(["again"]), str, runs, request, 2.0)
    asker = threading.Thread(target=lambda: sent.extend(again))
    asker.start()
    while not runs.by_visit["a"].asked_at == 2.0:
        time.sleep(0.01)
    assert list(under_way)[-1] == gr.skip()
    asker.join()
    assert sent == ["again"]
    assert list(updates(lambda run: iter(["overtaken"]), str, runs, request, 1.5)) == [gr.skip()]


def test_an_answer_is_escaped_and_its_loop_shaded_from_the_onset():
    html = draw_column(column("<b>甲" + "乙\n" * 20, "length"), 0)
    assert "<b>" not in html and "<span>&lt;b&gt;甲</span><mark" in html
    assert "×20" in html and html.count("⏎") == 20
    assert "<mark" not in draw_column(column("没有循环"), 0)


def test_a_plain_column_shows_what_it_goes_on_from_and_is_no_measure_of_the_adapter():
    html = draw_column(column("<b>", "length", PLAIN), 2, "<i>问", 0)
    assert '<span class="lens-before" dir="auto">&lt;i&gt;问</span><span>&lt;b&gt;</span>' in html
    assert 'data-text="&lt;b&gt;"' in html and "原文续写" in html and "不能拿来和适配后的一列比高下" in html
    alone = draw_result(ComparisonRequest("问", columns=(AskedColumn(prompt="plain"),)), [column("田", "length", v)
                                                                         for v in (BASE, PLAIN)], {})
    assert 'id="adapted"' not in alone and "lens-said" not in alone  # a base without an adapter


def test_control_characters_are_shown_as_such_and_text_cannot_turn_the_page_around():
    columns = [column("答\x07\u202e", variant=v) for v in (BASE, PLAIN)]
    html = draw_result(ComparisonRequest("\x1b[2J\x9b?\ud83d"), columns, {"base": "\x00"})
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]", html) and "答\ufffd" in html
    for text in re.findall(r'<div class="lens-answer"[^>]*>|<span class="lens-before"[^>]*>', html):
        assert 'dir="auto"' in text  # isolates what an override in it turns
    assert as_json(["\x1b\x9b"]) == '["\\u001b\\u009b"]'


def engine_of(*names: str) -> StandInEngine:
    return StandInEngine(*map(loaded, names))


def test_of_two_adapters_each_column_but_the_base_is_removed_by_its_place_in_the_list():
    """A further column came for each adapter, and the sign to remove it stood on the second adapter's own column."""
    engine = engine_of("one", "two")
    half = AskedColumn("one", 0.5)
    variants = ComparisonRequest("问", columns=(*shown_columns(engine), half, AskedColumn(prompt="plain"))).variants(
        engine)
    assert [(v.adapter, v.strength, v.prompt) for v in variants] == [
        (None, 0.0, "chat"), ("one", 1.0, "chat"), ("two", 1.0, "chat"), ("one", 0.5, "chat"), (None, 0.0, "plain")]
    html = draw_result(ComparisonRequest("问"), [column("田", variant=v) for v in variants], {})
    removed = {m[1]: m[2] for m in re.finditer(r'id="([\w-]+)" data-index(?:(?!</article>).)*?data-action="remove" '
                                               r'data-value="(\d)"', html, re.S)}
    assert removed == {"adapted": "0", "column-2": "1", "column-3": "2", "column-4": "3"}


def test_columns_of_several_adapters_are_headed_by_their_names_and_of_one_by_what_it_does():
    """Five columns were all headed "Adapted"."""
    def heads(*names: str) -> list[str]:
        variants = [BASE, *(Variant.of(name, s) for name in names for s in (1.0, 0.5, 0.0))]
        html = draw_result(ComparisonRequest("问"), [column("田", variant=v) for v in variants], {})
        return [re.sub("<[^>]*>", "", head) for head in re.findall(r"<h2[^>]*>(.*?)</h2>", html)]

    assert heads("<i>")[1:] == ["适配后Adapted", "强度 0.5Strength 0.5", "适配器已关Adapter off"]
    assert heads("<i>", "two")[1:3] == ["&lt;i&gt;", "&lt;i&gt; × 0.5"]
    assert heads("<i>", "two")[4:6] == ["two", "two × 0.5"]


def test_twelve_adapters_are_twelve_columns_and_more_than_can_be_are_refused_with_both_numbers():
    """More than four were cut to four without a word."""
    engine = engine_of(*(f"a{i}" for i in range(12)))
    assert len(ComparisonRequest("问").variants(engine)) == 13
    last = list(Answering(engine, {}).compare("问"))[-1]
    assert [c["adapter"] for c in last["columns"]] == [None, *(f"a{i}" for i in range(12))]
    with pytest.raises(BadQuestion, match=f"{13 + MOST_COLUMNS} columns.*{MOST_COLUMNS}"):
        ComparisonRequest("问", columns=(AskedColumn("a0"),) * (12 + MOST_COLUMNS)).variants(engine)


def test_names_of_columns_are_unique():
    """An adapter named as the base is, and one strength given twice, were two columns of one name in JSON."""
    for adapters, strengths in ((("base",), [1.0]), (("lens",), [1.0, 1.0]), (("lens", "lens@0.5"), [1.0, 0.5])):
        *_, last = Answering(engine_of(*adapters), {}).compare("问", strengths=strengths)
        names = [c["variant"] for c in last["columns"]]
        assert len(set(names)) == len(names) == 1 + len(adapters) * len(strengths)


@pytest.mark.parametrize("bad, code", [
    ({"question": None}, "text-expected"), ({"instruction": 3}, "text-expected"),
    ({"strengths": ["x"]}, "number-out-of-range"), ({"strengths": [float("inf")]}, "number-out-of-range"),
    ({"strengths": [99.0]}, "number-out-of-range"), ({"strengths": [1.0] * 99}, "too-many-columns"),
    ({"max_new_tokens": 0}, "whole-number-out-of-range"), ({"temperature": "hot"}, "number-out-of-range"),
    ({"strengths": "1"}, "list-expected")])
def test_the_api_answers_bad_input_by_code_and_in_both_languages(bad, code):
    [answer] = Answering(engine_of("lens"), {}).compare(**{"question": "问", **bad})
    assert set(answer) == {"error"} and answer["error"]["code"] == code
    assert re.search("[一-鿿]", answer["error"]["message_zh"]) and answer["error"]["message"]


# ---- from columns to updates


def test_updates_are_paced_and_the_last_one_always_comes(monkeypatch):
    assert list(paced(iter(range(1000))))[0] == 0 and list(paced(iter(range(1000))))[-1] == 999
    assert len(list(paced(iter(range(1000))))) < 10
    now = [0.0]  # a clock that runs as drawing and decoding make it, however busy the machine is
    monkeypatch.setattr(page_updates, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def takes(seconds: float, thing: int) -> int:
        now[0] += seconds
        return thing

    drawn = [takes(0.05, update) for update in paced(takes(0.002, n) for n in range(150))]  # 0.3 seconds of decoding
    assert drawn[0] == 0 and drawn[-1] == 149 and 2 <= len(drawn) <= 4
    run = Run()
    stream = paced(iter("abc"), run)
    next(stream)
    run.superseded = True
    assert list(stream) == []


def test_what_goes_wrong_is_one_more_update_and_what_has_no_sentence_reaches_the_log():
    def fails(error):
        def start(run):
            yield "first"
            raise error
        return start

    told = []
    assert list(updates(fails(BadQuestion("no-question-yet")), lambda err: err.code)) == ["first", "no-question-yet"]
    with pytest.raises(KeyError):
        for update in updates(fails(KeyError("x")), lambda err: err.code):
            told.append(update)
    assert told == ["first", "answer-broken"]


def test_an_answer_of_the_page_is_drawn_at_once_and_at_its_end():
    drawn = list(Answering(engine_of("lens"), {}).stream(ComparisonRequest("问"), Run()))
    assert 'data-state="writing"' in drawn[0] and "正在读题" in drawn[0]
    assert 'data-state="writing"' not in drawn[-1] and 'data-text="lens"' in drawn[-1]


def test_a_long_question_is_asked_whole_and_one_beyond_the_window_refused_with_both_numbers(engine):
    """A pasted question over 4,000 characters was cut without a word."""
    long = "哈尔滨工业大学的校训是什么？" * 300
    stand_in = engine_of("lens")
    list(Answering(stand_in, {}).stream(ComparisonRequest(long), Run()))
    assert stand_in.asked[0][0] == long
    assert ComparisonRequest.from_link({"q": long}).question == long
    with pytest.raises(LensError, match=r"\d{4} tokens long.*2048"):
        list(Answering(engine, {}).stream(ComparisonRequest(long, max_new_tokens=8), Run()))
    with gr.Blocks() as blocks:
        for tab in TABS:
            if tab.__name__.split(".")[-2] not in ("training", "report"):
                tab.build(stand_in)
    boxes = [b for b in blocks.blocks.values() if isinstance(b, gr.Textbox)]
    assert len(boxes) >= 4 and not any(b.max_length for b in boxes)


def test_what_an_adapter_brought_and_nobody_used_is_told_on_the_page():
    note = Note("too-many-columns", columns="<b>", most=3)  # any sentence
    html = draw("page", "loaded", facts={"base": "b"}, notes=[note])
    assert "最多 3 列" in html and "at most 3" in html and "<b>" not in html


def test_an_error_draws_itself_in_both_languages_and_its_values_are_no_markup():
    html = draw("compare/result", "error", error=BadQuestion("too-many-columns", columns="<b>{most}", most=3))
    assert "最多 3 列" in html and "at most 3" in html and "<b>{" not in html and "&lt;b&gt;{most}" in html


@pytest.mark.parametrize("reason", [None, "stop", "length", "loop", "cancelled"])
def test_every_way_to_stop_is_told_in_both_languages(reason):
    html = draw_column(column("答", reason), 0)
    why = {"stop": ("自己说完停下", "ended by itself", "模型认为说完了"),
           "length": ("到长度上限被截断", "cut at", "一直没有出现"),
           "loop": ("陷入循环，已截住", "stopped in a loop", "一再重复"),
           "cancelled": ("已被你停止", "stopped by you", "你按了"),
           None: ("正在写…", "writing…", "各列同步前进")}
    assert all(text in html for text in why[reason])
    assert f'aria-busy="{str(reason is None).lower()}"' in html


def test_markup_in_an_adapters_name_stays_text():
    assert "<script>" not in draw_column(column("x", "stop", Variant.of("<script>")), 1)


def test_markdown_fences_what_the_model_wrote():
    result = {"question": "q", "instruction": "", "sampling": {}, "loaded": {},
              "columns": [{"variant": "base", "strength": 0.0, "text": "```\n# no heading", "finish_reason": "stop",
                           "tokens": 1, "seconds": 1.0}]}
    assert "\n````\n```\n# no heading\n````\n" in as_markdown(result)


def test_an_adapter_is_told_of_when_its_folder_is_gone(tmp_path):
    folder = shutil.copytree(ADAPTER, tmp_path / "gone")
    found = LoadedAdapter(read_adapter(folder), None, True, 3)
    shutil.rmtree(folder)
    weights = load_file(ADAPTER / "adapter_model.safetensors")
    assert as_dict(found)["parameters"] == sum(value.numel() for value in weights.values()) == 393_216


def test_every_label_is_translated():
    """Each Chinese label given to a Gradio component in our tab is in the table."""
    source = "".join(path.read_text(encoding="utf-8") for path in PAGE.rglob("*.py"))
    places = r"(?<![-\w])label=|info=|placeholder=|gr\.Button\(|gr\.Accordion\(|gr\.Tab\("
    given_labels = re.findall(rf'(?:{places})"([^"]*[一-鿿][^"]*)"', source)
    assert len(given_labels) > 10
    assert {label for label in given_labels if " · " not in label} <= set(labels())
    assert set(TABS.values()) <= set(labels())


def test_examples_come_in_groups_and_held_out_rows_have_references():
    groups = template("compare/examples").GROUPS
    assert len(groups) >= 5 and all(questions for _, _, questions in groups)
    assert len(every_row()) > 100 and all(row.output for row in every_row().values())


def luminance(colour: str) -> float:
    parts = [int(colour[i:i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


@pytest.mark.parametrize("theme", [":root", ".dark"])
def test_contrast_is_at_least_aa(theme):
    """WCAG 2.2, 1.4.3: 4.5 to 1 for text; 1.4.11: 3 to 1 for the outline of what has focus."""
    block = (PAGE / "frame" / "style.css").read_text(encoding="utf-8").split(f"\n{theme} {{", 1)[1].split("}", 1)[0]
    colour = dict(re.findall(r"--lens-([\w-]+): (#[0-9a-f]{6})", block))
    text = {"ink": "paper card base-soft", "quiet": "paper card base-soft", "base-ink": "paper card",
            "adapted-ink": "paper card adapted-soft", "loop-ink": "loop", "bad": "bad-soft", "card": "ink"}
    outlines = {"adapted": "paper card", "base": "card"}
    pairs = [(ink, paper, least) for table, least in ((text, 4.5), (outlines, 3)) for ink in table
             for paper in table[ink].split()]
    for ink, paper, least in pairs:
        light, dark = sorted((luminance(colour[ink]), luminance(colour[paper])), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= least, (theme, ink, paper)
