"""The Report tab: large figures, flips first, search and filter, every answer escaped, no report and a broken one."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import gradio as gr
import pytest
from one_tab import StandInEngine, loaded, opened
from playwright.sync_api import expect
from test_report import ADAPTED_TEXTS, EVIL, report_of, seen
from test_slices import TAGGED, sliced

from compare.page.report import tab as reported
from compare.page.report.charts import curves
from compare.page.report.tab import Report, highlighted, notice, read_report
from compare.page.shared.templates import template

COMMAND = "python -m compare.evaluate --output assets/report"


def engine() -> StandInEngine:
    adapter = loaded("lens")
    adapter.files.sha256 = "1" * 64
    return StandInEngine(adapter)


@pytest.fixture
def report() -> Report:
    return Report(report_of())


def questions(html: str) -> list[str]:
    return re.findall(r'class="input" lang="zh-CN" dir="auto">([^<]*)<', html)


def test_flips_come_first_then_right_wrong_and_off_topic(report):
    kinds = [report.kinds[q["index"]] for q in report.questions]
    assert kinds == ["wrong_to_right"] * 3 + ["right_to_wrong", "off_topic"]
    assert questions(report.table())[3] == "英文缩写？"
    assert "✗→✓ 3" in report.flips() and "✓→✗ 1" in report.flips()


def test_search_looks_through_questions_references_and_answers(report):
    assert questions(report.table("校训")) == ["校训是什么？"]
    assert questions(report.table("harbin")) == ["英文缩写？"]  # an adapted answer, whatever its case
    assert questions(report.table("首任 宋小濂")) == ["首任校长是谁？"]  # every word
    assert questions(report.table("火星")) == []


def test_the_filter_keeps_one_kind(report):
    assert questions(report.table(kind="right_to_wrong")) == ["英文缩写？"]
    assert questions(report.table("月亮", "wrong_to_right")) == []


def test_more_is_offered_only_where_there_is_more(report):
    assert 'data-more="2"' in report.table(shown=2) and len(questions(report.table(shown=2))) == 2
    assert "data-more" not in report.table(shown=5)


def test_the_large_figures_are_the_reports(report):
    html = report.head()
    assert "<strong>75.0%</strong>" in html and "+50.0 points" in html
    adapted = report.fields["variants"][1]
    interval = adapted["measures"]["right"]
    assert f"{interval['low']:.1%} … {interval['high']:.1%}" in html
    assert f"× {adapted['plain']['ratio']['value']:.2f}" in html


def test_curves_only_where_there_are_points():
    assert curves(report_of()) == []
    drawn = Report(report_of(others=[seen(ADAPTED_TEXTS, strength=0.5)],
                             checkpoints=[seen(ADAPTED_TEXTS, step=50)])).head()
    assert drawn.count("<figure>") == 6 and "Training steps" in drawn and "Strength" in drawn
    assert ">50</span>" in drawn and ">0.5</span>" in drawn


def test_text_of_models_is_escaped_and_keywords_are_marked(report):
    html = report.table() + report.head()
    assert "<script" not in html and "&lt;script&gt;" in html
    assert highlighted("<b>HIT</b>", ["hit"]) == [("<b>", False), ("HIT", True), ("</b>", False)]
    shown = template("report/view").highlighted
    assert shown(highlighted("<b>HIT</b>", ["hit"])) == "&lt;b&gt;<mark>HIT</mark>&lt;/b&gt;"
    assert shown(highlighted(EVIL, [])).count("<") == 0


def test_names_in_a_report_are_escaped():
    fields = report_of()
    fields["adapter"]["name"] = EVIL
    assert "<script" not in Report(fields).head()


def table_rows(html: str) -> list[list[str]]:
    """The cells of each of a table's rows, as they are read."""
    rows = re.findall(r"<tr>(.*?)</tr>", html, re.S)
    return [[" ".join(re.sub("<[^>]*>", "", cell).split()) for cell in re.findall(r"<t[hd][ >].*?</t[hd]>", row, re.S)]
            for row in rows]


def test_slices_are_drawn_with_their_intervals():
    html = Report({**report_of(), "slices": {**sliced(), "left_out": 2}}).head()
    titles, everything, school, *_, sky = table_rows(html)
    assert titles[1:4] == ["问题questions", "答对right", "由错变对wrong → right"] and len(titles) == len(school) == 10
    assert everything[0] == "全部all" and everything[2].startswith("25% → 75% (")
    assert school == ["school", "2", "50% → 50% (0–100)", "50% (0–100)", "50% (0–100)", "50% → 100% (100–100)",
                      "0% → 0% (0–0)", "0% → 0% (0–0)", "0% → 0% (0–0)", "50% → 0% (0–0)"]
    assert sky[:5] == ["sky", "1", "–", "–", "–"] and sky[7] == "0% → 100% (100–100)"
    assert "2 smaller slices are left out" in html and "还有 2 个更小的组" in html


@pytest.mark.parametrize("without", [{}, {"slices": None}], ids=str)
def test_a_report_without_slices_draws_none(without):
    assert "<table" not in Report({**report_of(), **without}).head()


def test_names_of_slices_and_rules_are_escaped_and_have_their_language():
    rows = [replace(row, fields={"tag": tag}) for row, tag in zip(TAGGED, (EVIL, "校史", "sky", 1, "x"), strict=True)]
    html = Report({**report_of(), "slices": sliced(rows=rows, rules={"<i>": "是", "道歉": "抱歉"})}).head()
    assert "<script" not in html and "&lt;script&gt;" in html and "<i>" not in html and "&lt;i&gt;" in html
    assert '<span lang="zh-CN" dir="auto">校史</span>' in html and '<span lang="zh-CN" dir="auto">道歉</span>' in html
    assert '<span dir="auto">sky</span>' in html


def told(path) -> str:
    with gr.Blocks() as blocks:
        reported.build(engine(), path)
    return "".join(str(b.value) for b in blocks.blocks.values() if isinstance(b, gr.HTML))


def write(path, fields) -> None:
    path.write_text(json.dumps(fields), encoding="utf-8")


def test_without_a_report_the_tab_gives_the_command(tmp_path):
    assert COMMAND in told(tmp_path / "report.json")
    assert read_report(tmp_path / "report.json") is None


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"format": 2}',
                                     json.dumps({**report_of(), "slices": {"field": "tag", "groups": [{}]}})],
                         ids=lambda text: text[:14])
def test_a_broken_report_is_told_with_the_command(tmp_path, content):
    path = tmp_path / "report.json"
    path.write_text(content)
    html = told(path)
    assert "cannot be read" in html and COMMAND in html


def test_a_report_of_another_adapter_says_so(tmp_path):
    path = tmp_path / "report.json"
    fields = report_of()
    write(path, fields)
    assert "another adapter" not in told(path)
    fields["adapter"]["sha256"] = "9" * 64
    write(path, fields)
    assert "another adapter (sha256 999999999999)" in told(path)
    alone = StandInEngine()
    assert not notice(alone, fields["adapter"]["sha256"])  # the pair's base without its adapter
    alone.facts = replace(alone.facts, family="llama")
    assert "not of what is loaded" in notice(alone, fields["adapter"]["sha256"])


@pytest.fixture(scope="module")
def page(tmp_path_factory, browser):
    """The tab alone in headless Chromium, over forty questions."""
    path, fields = tmp_path_factory.mktemp("report") / "report.json", report_of()
    extra = [{**fields["questions"][4], "index": i, "input": f"题 {i}"} for i in range(5, 40)]
    slices = sliced(rules={"a rule whose name is long enough for two lines": "是", "another": "不"})
    write(path, {**fields, "questions": [*fields["questions"], *extra], "slices": slices})
    with opened(browser, lambda: reported.build(engine(), path), "#reported-table details") as page:
        yield page


def test_searching_and_filtering_in_the_browser(page):
    rows = page.locator("#reported-table details")
    expect(rows).to_have_count(reported.AT_ONCE)
    page.locator("#reported-search textarea, #reported-search input").first.fill("校训")
    expect(rows).to_have_count(1, timeout=15_000)
    page.locator("#reported-search textarea, #reported-search input").first.fill("")
    page.get_by_label("由对变错").check()
    expect(rows).to_have_count(1, timeout=15_000)
    expect(rows.locator(".input")).to_have_text("英文缩写？")
    page.get_by_label("全部问题").check()
    expect(rows).to_have_count(reported.AT_ONCE, timeout=15_000)


def test_an_opened_question_shows_both_answers_and_stays_open_when_more_come(page):
    rows = page.locator("#reported-table details")
    rows.nth(1).locator("summary").press("Enter")
    expect(rows.nth(1).locator(".answer[data-side=base]")).to_contain_text(EVIL)
    expect(rows.nth(1).locator(".answer[data-side=adapted] mark").first).to_have_text("规格严格")
    page.locator("[data-more]").click()
    expect(rows).to_have_count(40, timeout=15_000)
    expect(rows.nth(1)).to_have_attribute("open", "")
    expect(page.locator("[data-more]")).to_have_count(0)


def test_nothing_is_wider_than_a_phone(page):
    assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_slices_scroll_within_their_own_box(page):
    box = page.locator(".slices")
    whole, seen_at_once, first = box.evaluate(
        "box => [box.scrollWidth, box.clientWidth, box.querySelector('tbody th').offsetWidth]")
    assert seen_at_once <= 390 < whole and first > 60  # a name is not broken letter by letter
    box.evaluate("box => box.scrollTo(9999, 0)")
    assert box.evaluate("box => box.scrollLeft") == whole - seen_at_once
