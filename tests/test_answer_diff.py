"""What is done with a result: what differs between two answers, Markdown, what is taken away, pinned runs."""

from __future__ import annotations

import csv
import io
import json
import re
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from one_tab import column, opened
from playwright.sync_api import expect

from compare.engine.interface import BASE, Variant
from compare.page.compare.export import as_csv, as_dict, as_table, downloads
from compare.page.compare.result import LONGEST, differ, draw_result, result_piece
from compare.page.compare.word_diff import difference, units
from compare.page.shared.answer_markdown import rendered
from compare.page.shared.request import ComparisonRequest
from lens.errors import BadSetting
from tests.open_page import WAIT
from tests.test_page import MOTTO, ask, finished

pytest_plugins = ["tests.open_page"]

ATTACK = "<img src=x onerror=\"document.title='owned'\">"
FAMILY, FLAG, ACCENT = "👨\u200d👩\u200d👧\u200d👦", "🇨🇳", "e\u0301"
LENS = Variant.of("lens")


# ---- what differs


@pytest.mark.parametrize("text, expected", [
    ("规格严格", ["规", "格", "严", "格"]), ("It's a café_1.", ["It's", " ", "a", " ", "café_1", "."]),
    ("在2024年用Python", ["在", "2024", "年", "用", "Python"]), (f"a{FAMILY}{FLAG}b", ["a", FAMILY, FLAG, "b"]),
    (f"caf{ACCENT} {ACCENT}", [f"caf{ACCENT}", " ", ACCENT]), ("これ は\n\nok", ["こ", "れ", " ", "は", "\n\n", "ok"]),
    ("שלום עולם", ["שלום", " ", "עולם"]), ("", [])])
def test_words_are_compared_where_a_script_has_words_and_characters_where_it_has_none(text, expected):
    assert units(text) == expected


def kinds(one: str, other: str) -> list[list[tuple[str, str]]]:
    found = difference(one, other)
    return [[(s.text, s.kind) for s in side] for side in (found.one, found.other)]


def test_the_place_where_two_answers_part_is_set_off_from_what_differs_later():
    assert kinds("规格严格，功夫到家。", "规格严格，工夫在家。") == [
        [("规格严格，", "same"), ("功", "first"), ("夫", "same"), ("到", "other"), ("家。", "same")],
        [("规格严格，", "same"), ("工", "first"), ("夫", "same"), ("在", "other"), ("家。", "same")]]
    found = difference("the cat sat", "the dog sat")
    assert (found.first, found.shared, found.agreement) == (("cat", "dog"), 1, 66)


def test_one_that_ends_first_parts_at_its_end():
    found = difference("规格严格", "规格严格，功夫到家")
    assert found.first == ("", "，") and found.shared == 4 and not found.equal
    assert difference("", "").agreement == 100 and difference("", "x").agreement == 0


@pytest.mark.parametrize("one, other", [("a b", "a  b"), ("x" * 999 + " end", "x" * 999 + " end\n"),
                                        ("字" * 3000, "字" * 2999 + "z"), (f"caf{ACCENT}", "café")])
def test_a_hundred_per_cent_is_said_of_what_is_the_same_alone(one, other):
    assert difference(one, other).agreement < 100 and not difference(one, other).equal
    assert difference(one, one).agreement == 100 and difference(one, one).equal


@given(st.text(max_size=60), st.text(max_size=60))
def test_no_character_of_either_answer_is_lost(one, other):
    found = difference(one, other)
    assert ["".join(s.text for s in side) for side in (found.one, found.other)] == [one, other]
    assert found.equal is (one == other) and (found.agreement == 100) is (one == other)


def test_of_a_very_long_answer_it_is_told_what_was_not_compared():
    found = difference("甲" * 9 + "乙丙" * 50, "甲" * 9 + "丙" * 100, most=20)
    assert found.shared == 9 and not found.whole
    assert found.one[-1].kind == "beyond" and len(found.one[-1].text) == 80
    assert "没有比较" in differ(["乙丙" * 2000, "丁" * 4000]) and "没有比较" not in differ(["乙丙", "丁"])


def test_what_differs_is_drawn_as_text_and_marked_by_more_than_colour():
    html = differ([ATTACK + " a\n", ATTACK + " b"])
    assert "<img" not in html and '<mark class="lens-parts">a</mark>' in html
    assert '<mark class="lens-differs">⏎</mark>' in html and html.count('dir="auto"') == 4
    assert "逐字相同" in differ(["同", "同"])


@pytest.mark.parametrize("bad", [None, "ab", ["a"], ["a", "b", "c"], ["a", 3], ["a", "b" * (LONGEST + 1)], {"a": "b"}])
def test_what_is_no_pair_of_answers_is_refused(bad):
    assert "role=\"alert\"" in differ(bad) and f"{LONGEST:,}" in differ(bad)


# ---- Markdown


def test_markdown_is_set_and_html_in_it_stays_text():
    html = rendered(f"# 题\n\n**粗** {ATTACK} <b>x</b>\n\n|a|b|\n|-|-|\n|1|2|")
    assert '<p class="lens-heading">题</p>' in html and "<strong>粗</strong>" in html and "<td>2</td>" in html
    assert "<img" not in html and "<b>" not in html and "<h1" not in html


@pytest.mark.parametrize("text", ["[x](javascript:alert(1))", "[x](data:text/html;base64,AAAA)", "![x](http://a.b/c.png)",
                                  "[x](vbscript:x)", "<http://a.b/\"onclick=1>", "*x* <script>alert(1)</script>",
                                  "`x` <a href=\"javascript:1\">y</a>", "[x]: javascript:alert(1)\n[x] *y*"])
def test_nothing_in_an_answer_can_run_or_fetch(text):
    html = str(rendered(text) or "")
    assert not re.search(r"<(script|img|iframe|object|a (?!href=\"http))|href=\"(?!http)|\son\w+=", html)


def test_plain_text_is_not_set_and_a_link_tells_nobody_whence_one_came():
    assert rendered("规格严格，功夫到家。\n\n1998 年 <b>") is None
    assert 'rel="noopener noreferrer nofollow"' in rendered("[x](https://a.b)")


def test_both_forms_of_an_answer_are_in_a_finished_column_alone():
    done, growing = (draw_result(ComparisonRequest("问"), [column("**粗**", reason)], {}) for reason in ("stop", None))
    assert '<div class="lens-rendered"><p><strong>粗' in done and '<span>**粗**</span>' in done
    assert 'data-action="formatted"' in done and "lens-rendered" not in growing
    assert 'data-action="formatted"' not in draw_result(ComparisonRequest("问"), [column("粗")], {})


# ---- to take away


def result(*texts: str, question: str = "问") -> dict:
    variants = [BASE, LENS, Variant.of("lens", -0.5)]
    return as_dict(ComparisonRequest(question), [column(t, "stop", v) for t, v in zip(texts, variants, strict=False)],
                   {"base": "b"})


def endpoint(**values) -> SimpleNamespace:
    said = {"endpoint": "other", "model": "m", "text": "答", "finish_reason": "stop", "seconds": 1.0} | values
    return SimpleNamespace(over=True, as_dict=lambda: said)


def test_a_spreadsheet_computes_nothing_and_what_was_changed_is_told():
    bad = ['=HYPERLINK("http://a.b")', "+1", "-2", "@x", "\tx", "＝1", " \n=1"]
    for text in bad:
        table, changed = as_csv(result("答", text))
        rows = list(csv.DictReader(io.StringIO(table.removeprefix("\ufeff"))))
        assert rows[1]["text"] == "'" + text and changed == 1 and rows[0]["text"] == "答"
    _, none = as_csv(result("a=b", "\n1-2", "答,\"x\"\n-y"))
    assert none == 0  # and a strength of -0.5 is a number
    [told] = [d.told for d in downloads(result("=1", "=2", question="=3")) if d.ending == "csv"]
    assert "4" in told.zh and "4" in told.en and "撇号" in told.zh


def test_csv_begins_with_a_byte_order_mark_and_reads_back():
    table, _ = as_csv(result("答,\"x\"\n第二行", "b"))
    assert table.encode().startswith(b"\xef\xbb\xbf") and "\r" not in table
    rows = list(csv.DictReader(io.StringIO(table.removeprefix("\ufeff"))))
    assert [(r["variant"], r["text"], r["strength"], r["prompt"]) for r in rows] == [
        ("base", "答,\"x\"\n第二行", "0.0", "chat"), ("lens", "b", "1.0", "chat")]


def test_an_endpoints_answer_and_fault_are_in_every_file():
    whole = as_dict(ComparisonRequest("问"), [column("答")], {}, [
        endpoint(), endpoint(text="", finish_reason=None, error=BadSetting("difference-texts", most="1").as_dict())])
    for file in downloads(whole):
        assert "other" in file.text, file.ending
    assert "difference-texts" in as_csv(whole)[0] and "other" in as_table(whole)


def test_json_is_strict():
    whole = result("答\u202e\x00", "b")
    whole["columns"][0]["seconds"] = float("nan")
    [text] = [d.text for d in downloads(whole) if d.ending == "json"]
    again = json.loads(text, parse_constant=lambda name: pytest.fail(name))
    assert again["columns"][0]["seconds"] is None and again["columns"][0]["text"] == "答\u202e\x00"
    assert "\u202e" not in text


@given(st.text(max_size=40))
def test_an_answer_in_a_markdown_table_is_one_cell_and_no_markup(text):
    lines = as_table(result(text, "b")).split("\n")
    html = MarkdownIt("commonmark", {"html": True}).enable("table").render("\n".join(lines[2:]))
    assert html.count("<tr>") == 3 and html.count("<td>") == 8
    assert not re.search(r"<(?!/?(table|thead|tbody|tr|td|th|br)\b)", html)


# ---- in the browser


def test_the_switch_shows_what_differs_between_any_two_and_a_pinned_run(visit):
    page = visit()
    switch, section = page.locator("[data-action=differ]"), page.locator(".lens-diff")
    expect(section).to_be_hidden()
    switch.click()
    expect(switch).to_have_attribute("aria-pressed", "true")
    expect(page.locator(".lens-agreement")).to_be_visible(timeout=WAIT)
    assert page.locator(".lens-picks select").first.evaluate("e => e.value") == "now base"
    both = page.locator(".lens-col .lens-answer").evaluate_all("all => all.map(e => e.dataset.text)")
    sides = page.locator(".lens-side").evaluate_all("all => all.map(e => e.textContent)")
    assert [s.replace("⏎", "\n") for s in sides] == [b.replace("⏎", "\n") for b in both]
    mark = page.locator(".lens-side mark").first
    assert "underline" in mark.evaluate("e => getComputedStyle(e).textDecorationLine")
    page.locator("[data-pick='1']").select_option("now base")
    expect(page.locator(".lens-agreement")).to_have_attribute("data-agreement", "100", timeout=WAIT)
    page.locator("[data-action=pin]").click()
    ask(page, MOTTO)
    finished(page)
    expect(page.locator(".lens-pinned q")).to_have_text("哈工大有多少杰出人才", timeout=WAIT)
    expect(page.locator(".lens-side").first).to_have_text(both[1], timeout=WAIT)  # the pinned run's adapted answer
    page.reload()  # the switch and the run are kept, whatever is answered by now
    expect(page.locator(".lens-agreement")).to_be_visible(timeout=WAIT)
    expect(page.locator(".lens-pinned q")).to_have_text("哈工大有多少杰出人才")
    expect(page.locator(".lens-side").first).to_have_text(both[1], timeout=WAIT)
    page.locator("[data-action=unpin]").click()
    expect(page.locator(".lens-pinned")).to_be_hidden()
    page.locator("[data-action=differ]").click()
    expect(page.locator(".lens-diff")).to_be_hidden()


def test_a_stopped_answer_is_set_by_the_switch_and_compared(browser):
    drawn = draw_result(ComparisonRequest("问"), [column("**粗**字", "cancelled"), column("粗字", "stop", LENS)], {})
    with opened(browser, lambda: result_piece(drawn) and None, "#result .lens-col") as page:
        plain, markdown = page.locator("#base .lens-answer > span"), page.locator("#base .lens-rendered strong")
        expect(plain).to_be_visible()
        expect(markdown).to_be_hidden()
        page.locator("[data-action=formatted]").click()
        expect(markdown).to_be_visible()
        expect(plain).to_be_hidden()
        expect(page.locator("#adapted .lens-answer > span")).to_be_visible()  # in which there is no Markdown
        page.locator("[data-action=differ]").click()
        expect(page.locator(".lens-agreement")).to_have_attribute("data-agreement", re.compile(r"\d+"), timeout=WAIT)
        expect(page.locator("[data-side=one] .lens-parts")).to_have_text("*")


def test_one_answer_is_copied_and_all_as_a_table_and_saved_as_csv(visit):
    page = visit()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.locator("#adapted [data-action=copy]").click()
    expect(page.locator("#adapted [data-action=copy]")).to_have_attribute("data-said", "已复制")
    answer = page.locator("#adapted .lens-answer").get_attribute("data-text")
    assert answer and page.evaluate("navigator.clipboard.readText()") == answer
    page.locator("[data-action=table]").click()
    expect(page.locator("[data-action=table]")).to_have_attribute("data-said", "已复制")
    assert page.evaluate("navigator.clipboard.readText()").startswith("**哈工大有多少杰出人才**\n\n| | answer |")
    with page.expect_download() as saved:
        page.get_by_role("button", name="CSV").click()
    with open(saved.value.path(), "rb") as file:
        assert file.read(3) == b"\xef\xbb\xbf"
