"""One answer looked into on the page and by programs: figures are drawn as they are, and only as text."""

from __future__ import annotations

import html
import json
import re
from functools import partial
from urllib.parse import parse_qsl

import pytest
from conftest import MOTTO
from one_tab import StandInEngine, loaded, opened
from playwright.sync_api import expect
from test_changed import SHIFT

from compare.analysis.layer_lens import AfterLayer, ByLayer, Through, TokenByLayer
from compare.analysis.layer_map import LayerMap, Part
from compare.analysis.token_shift import Candidate
from compare.engine.interface import GivenAnswer, Variant
from compare.page.changed import tab as changed
from compare.page.changed.answer_map import draw_answer_map
from compare.page.changed.layer_table import draw_layers
from compare.page.changed.look_inside import InsideAnswers, Looked
from compare.page.shared.column_list import AskedColumn
from compare.page.shared.request import FIRST_INSTRUCTION, ComparisonRequest
from compare.page.shared.templates import draw
from lens.errors import BadSetting

ATTACK = "<img src=x onerror=\"document.title='owned'\">"
MAP = LayerMap("lens", 7, -30.0, -2.0, (
    Part(0, "attention", 4.0, 1.0), Part(0, "mlp", -2.0, 0.5), Part(0, None, 3.0, 2.0),
    Part(1, "mlp", 20.0, 25.0), Part(1, None, 20.0, 25.0)))


def through(*leads: bool) -> Through:
    """A layer for each: does its final choice lead there?"""
    final, other = Candidate(5, ATTACK, 0.5), Candidate(6, "别", 0.4)
    return Through(tuple(AfterLayer((final, other) if first else (other, final), 1 if first else 2, 0.5)
                         for first in leads))


LENS = ByLayer("lens", 3, (TokenByLayer(0, 5, ATTACK, through(False, True), through(True, True)),),
               ((0.0, 0.0, 0.1, 0.2), (0.0, 0.5, 0.1, 1.0)))


def link_of(question: str):
    return partial(Looked(question, "", "lens", (5,)).link, usual=FIRST_INSTRUCTION)


def test_each_part_has_a_cell_on_both_maps_and_a_link_to_it_alone():
    drawn = draw_answer_map(MAP, link_of(f"校训？ {ATTACK}"))
    assert drawn.count("data-part=") == 2 * 5 and drawn.count(">–</td>") == 2  # layer 1 has no attention
    assert re.findall(r'data-part="0-mlp"[^>]*>([^<]+)<', drawn) == ["−2.0", "0.5"]
    assert drawn.count("data-minus") == 1 and "<img" not in drawn  # the key's; −2 of 20 is of the lightest shade
    parts = {side: re.findall(f'data-of="{side}"[^>]*>\\s*(?:<a class="onwards" href="([^"]+)")?', drawn)
             for side in ("gained", "lost")}
    asked = {side: [ComparisonRequest.from_link(dict(parse_qsl(html.unescape(link)[1:]))) for link in links]
             for side, links in parts.items()}
    assert {one.question for some in asked.values() for one in some} == {f"校训？ {ATTACK}"}
    assert {one.columns[0] for some in asked.values() for one in some} == {AskedColumn("lens")}
    second = {side: [(one.columns[1].layers, one.columns[1].modules) for one in some] for side, some in asked.items()}
    assert second["gained"] == [("0", "attention"), ("0", "mlp"), ("0", ""), ("1", "mlp"), ("1", "")]
    # All but: attention is in layer 0 alone, so that is the mlp; without layer 0's mlp no column is the rest.
    assert second["lost"] == [("", "mlp"), ("0", "mlp"), ("1", ""), ("0", ""), ("0", "")]
    assert drawn.count("“Only this off” cannot be a column") == 1
    assert "too long for a link" in draw_answer_map(MAP, link_of("长" * 2000))
    assert 'data-about="1-mlp">' in drawn and drawn.count("data-about=") == 5 and drawn.count(" hidden") >= 4
    assert "by +28.0 nats (its 7 tokens together: from -30.0 to -2.0)" in drawn and "need not add up" in drawn
    assert drawn.count("2.0</b> nats below the base") == 1 and drawn.count("25.0</b> nats below the whole adapter") == 2


def test_the_map_names_its_kinds_as_its_sentence_does():
    """In the sentence, over the columns and in each cell, in both languages."""
    drawn = draw_answer_map(MAP, link_of("校训？"))
    assert all(drawn.count(name) >= 9 for name in ("feed-forward (mlp)", "前馈（mlp）"))
    assert "mlp's" not in drawn and "s mlp" not in drawn


def test_a_token_is_drawn_layer_by_layer_and_only_as_text():
    drawn = draw_layers(LENS)
    assert "<img" not in drawn and drawn.count("<tr>") == 3
    assert [found for found in re.findall(r'<td data-side="(\w+)" data-leads', drawn)] == ["adapted", "base"]
    assert drawn.count("<rect") == 3 and "100%" in drawn  # what is below a fifth of the largest stays white
    assert "leads from layer <b>1</b> on, the adapted model's from layer <b>0</b>" in drawn
    assert "up to 50% of its size (token 2, after layer 1), within the answer by up to 100% (token 1" in drawn


def test_the_shipped_answer_is_mapped_for_programs(engine):
    inside = InsideAnswers(engine)
    found = inside.layer_map(MOTTO, max_new_tokens=16)
    json.dumps(found, allow_nan=False)
    assert found["adapted"] > found["base"] and found["answer"] and set(found["sentence"]) == {"en", "zh"}
    assert len(found["parts"]) == 3 * engine.facts.shape.n_layer
    other = inside.layer_map(MOTTO, text="不知道", strength=0.5)
    assert inside.layer_map(MOTTO, text="半\ud800")["answer"] == "半?"  # half a character, which JSON may carry
    assert other["answer"] == "不知道" and other["variant"] == "lens@0.5" and other["tokens"] < found["tokens"]


@pytest.mark.slow
def test_each_example_on_the_page_has_a_map_that_says_something(engine):
    """Every question that Compare offers: a sentence, and some part that alone makes the answer e times as likely."""
    asked = re.findall(r'data-question="([^"]+)"', html.unescape(str(draw("compare/examples", "examples"))))
    assert len(asked) > 6
    inside = InsideAnswers(engine)
    for question in asked:
        found = inside.layer_map(question)
        assert found["adapted"] > found["base"] and re.search("layer .* most", found["sentence"]["en"]), question
        assert max(part["gained"] for part in found["parts"]) > 1, question


def test_the_shipped_answer_is_read_by_layers_for_programs(engine):
    inside = InsideAnswers(engine)
    found = inside.by_layer(MOTTO, max_new_tokens=8, positions=[0, 2])
    json.dumps(found, allow_nan=False)
    assert [token["index"] for token in found["tokens"]] == [0, 2]
    scored = changed.Changes(engine).score(MOTTO, max_new_tokens=8)["answers"]["adapted"]["tokens"][2]
    last = found["tokens"][1]["adapted"]["layers"][-1]
    assert [c["token_id"] for c in last["top"]] == [c["token_id"] for c in scored["adapted"]["top"]]
    assert last["rank"] == 1 and len(found["changes"]["by_layer"]) == engine.facts.shape.n_layer
    assert len(inside.by_layer(MOTTO, max_new_tokens=4)["tokens"]) == 4


@pytest.mark.parametrize("bad, code", [
    ({"adapter": "nobody"}, "adapter-not-loaded"), ({"strength": 99.0}, "number-out-of-range"),
    ({"max_new_tokens": 0}, "whole-number-out-of-range"), ({"text": 7}, "text-expected"),
    ({"text": "长" * 4000}, "answer-over-window"), ({"question": " "}, "question-empty"),
    ({"positions": [99]}, "positions-not-there"), ({"positions": "0"}, "list-expected"),
    ({"positions": [0.5]}, "list-expected")], ids=str)
def test_what_a_program_cannot_ask_is_told_by_code(engine, bad, code):
    asked = {"question": MOTTO, "max_new_tokens": 4, **bad}
    inside = InsideAnswers(engine)
    found = [inside.by_layer(**asked)] + ([] if "positions" in bad else [inside.layer_map(**asked)])
    assert [one["error"]["code"] for one in found] == [code] * len(found)


@pytest.mark.parametrize("sent", [None, [], {}, {"ids": "12"}, {"ids": [1.5]}, {"ids": [True]}, {"ids": [1] * 3000},
                                  {"ids": [1], "at": "x"}, {"ids": [1], "question": 7}], ids=lambda s: str(s)[:20])
def test_a_browser_may_send_anything(sent):
    if isinstance(sent, dict) and sent:
        sent = {"question": MOTTO, "instruction": "", "adapter": "lens", **sent}
    with pytest.raises(BadSetting):
        Looked.read(sent)


class Inside(StandInEngine):
    """An engine without a model, which can be looked into."""

    abilities = frozenset({"by-layer"})

    def prompts(self, question, variants, sampling):
        return [[1, 2, 3]]

    def adapter_norms(self, name):
        from test_changed import sites

        return sites()

    def layer_map(self, given):
        self.looked.append(given)
        return MAP

    def by_layer(self, given, positions):
        self.looked.append((given, positions))
        return LENS

    looked: list = []


@pytest.mark.parametrize("quick", [True, False])
def test_a_large_model_is_looked_into_only_when_asked(quick, monkeypatch):
    engine = Inside(loaded("lens"))
    monkeypatch.setattr(changed, "QUICK", 0, raising=False)
    monkeypatch.setattr("compare.page.changed.look_inside.QUICK", 10**12 if quick else 0)
    waiting, *drawn = InsideAnswers(engine).first(Looked(MOTTO, "", "lens", (5, 6), 1))
    assert "data-measure=" in waiting[0] and "data-look=" in waiting[1] and "data-part" not in waiting[0]
    assert len(drawn) == quick and (not quick or "data-part=" in drawn[0][0] and "data-leads" in drawn[0][1])


def test_a_model_that_cannot_be_read_by_layer_has_its_map_alone():
    inside = InsideAnswers(StandInEngine(loaded("lens")))
    (_, waiting), (needed, layers) = inside.first(Looked(MOTTO, "", "lens", (5,)))
    assert waiting == layers and "base base runs by transformers&#39; own forward" in layers
    assert "data-look" not in layers and "data-part=" in needed and "底座 base 用 transformers 自己的前向计算" in layers
    assert list(inside.first(Looked(MOTTO, "", "lens", ()))) == [("", "")]


@pytest.fixture(scope="module")
def page(browser):
    """The tab alone at a phone's width."""
    engine = Inside(loaded("lens"), says=lambda question, variant: (ATTACK, "stop"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(changed.Shift, "of", lambda engine, columns: SHIFT)
        with opened(browser, lambda: changed.build(engine), "[data-part]") as page:
            yield page


def test_cells_say_their_figures_by_key_and_by_mouse(page):
    about = page.locator("[data-about]:visible")
    expect(about).to_contain_text("比原模型多 20.0 nat")
    page.locator("[data-side=gained] [data-part]").first.focus()
    expect(about).to_contain_text("比原模型多 4.0 nat")
    page.keyboard.press("ArrowRight")
    expect(about).to_contain_text("比原模型少 2.0 nat")
    page.locator("[data-side=lost] [data-part='0-layer']").hover()
    expect(about).to_contain_text("少 2.0 nat")
    assert page.title() == "tab" and page.evaluate("document.documentElement.scrollWidth") == 390


def columns_opened(page, press) -> list[tuple[str, str]]:
    """Layers and modules of each column of the link that this press follows, in a window of its own."""
    with page.expect_popup() as opening:
        press()
    query = dict(parse_qsl(opening.value.url.partition("?")[2]))
    opening.value.close()
    return [(column.layers, column.modules) for column in ComparisonRequest.from_link(query).columns]


def test_a_second_press_on_a_cell_opens_the_column_that_its_link_names(page):
    gained, lost = (page.locator(f"[data-side={side}] [data-part='1-layer']") for side in ("gained", "lost"))
    link = page.locator("[data-about] a:visible")
    windows = lambda: len(page.context.pages)  # noqa: E731
    before = windows()
    gained.hover()
    gained.click()
    expect(link).to_contain_text("让它单独成一列")
    lost.click()  # the same part, but another cell
    expect(link).to_contain_text("让除它以外的单独成一列")
    gained.click()
    page.locator("[data-side=gained] [data-part='0-layer']").hover()
    gained.click()  # it was left in between
    page.wait_for_timeout(300)
    assert windows() == before
    assert columns_opened(page, gained.click) == [("", ""), ("1", "")]
    lost.focus()
    page.keyboard.press("Enter")
    page.wait_for_timeout(300)
    assert windows() == before
    assert columns_opened(page, lambda: page.keyboard.press("Enter")) == [("", ""), ("0", "")]
    kind = page.locator("[data-side=lost] [data-part='0-mlp']")
    kind.click()
    expect(page.locator("[data-about]:visible")).to_contain_text("写不成一列")
    assert columns_opened(page, kind.click) == [("", ""), ("0", "mlp")]


def test_enter_held_down_is_one_press(page):
    before = len(page.context.pages)
    page.locator("[data-side=gained] [data-part='0-layer']").focus()
    for _ in range(4):  # without a release in between these are repeats
        page.keyboard.down("Enter")
    page.keyboard.up("Enter")
    page.wait_for_timeout(300)
    assert len(page.context.pages) == before


def test_the_token_of_the_ribbon_is_looked_at_layer_by_layer(page):
    before = len(Inside.looked)
    page.locator("article[data-side=adapted] .ribbon button").nth(2).click()
    page.locator(".look [data-inside]").click()
    expect(page.locator("#changed-layers [data-leads]").first).to_be_visible()
    page.wait_for_timeout(500)
    assert len(Inside.looked) == before + 1
    given, positions = Inside.looked[-1]
    assert given == GivenAnswer([1, 2, 3], [p.token_id for p in SHIFT.adapted], Variant.of("lens")) and positions == [2]
