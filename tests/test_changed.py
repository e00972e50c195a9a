"""The What changed tab: ribbons hold every token and only as text, curves and heat map say their figures."""

from __future__ import annotations

import html
import json
import re
import time

import gradio as gr
import pytest
from conftest import ADAPTER, BASE
from one_tab import StandInEngine, loaded, opened
from playwright.sync_api import expect

from compare.analysis.adapter_norms import Anatomy, Site, Size
from compare.analysis.token_shift import Candidate, Position, Shift, View
from compare.engine.answers import compare
from compare.engine.interface import Question
from compare.engine.local import LocalEngine
from compare.models.receipt import Receipt
from compare.page.changed import tab as changed
from compare.page.changed.adapter_map import draw_map
from compare.page.changed.end_probability import draw_end_probability, percent
from compare.page.changed.token_ribbon import draw_shift, draw_writing, ribbon
from compare.page.changed.turned_answer import draw_error
from compare.page.shared.request import FIRST_INSTRUCTION, FIRST_QUESTION
from compare.page.shared.templates import draw, template
from lens.errors import BadQuestion

END = 2
ATTACK = "<img src=x onerror=\"document.title='owned'\">"
WORDS = ["<script>alert(1)</script>", " ", "", "字", "\n", ATTACK, "{{value}}${value}"]


def position(text: str, token_id: int = 9, choice_rank: int = 1, kl: float = 0.0, end: float = 0.01) -> Position:
    """A token that the base ranks 7th and the adapted model first."""
    def view(rank: int, p_end: float) -> View:
        top = [Candidate(token_id if rank == 1 and i == 0 else 100 + i, f"<b>{i}</b>", 0.5 / 2**i) for i in range(5)]
        return View(-0.6931471805599453, rank, p_end, tuple(top))

    return Position(token_id, text, view(7, end / 10), view(1, end), kl, choice_rank)


SHIFT = Shift("lens", tuple(position(w) for w in WORDS),
              (position(WORDS[0]), position("变", choice_rank=9, kl=5.0), position("略", choice_rank=3, kl=0.3),
               position("</s>", END, choice_rank=4, kl=1.0, end=0.97)), 1)


PARTED = template("changed/token_ribbon").PARTED


def answer(side: str, positions) -> str:
    return template("changed/token_ribbon").answer(side, ribbon(positions, END), 1)


def chips(drawn: str) -> list[tuple[dict[str, str], str]]:
    """The buttons of a drawing: attributes and text content."""
    return [(dict(re.findall(r'([\w-]+)="([^"]*)"', attributes)), html.unescape(text))
            for attributes, text in re.findall(r"<button ([^>]*)>(.*?)</button>", drawn, re.S)]


def tags(drawn: str) -> set[str]:
    return set(re.findall(r"<(\w+)", drawn))


def test_a_ribbon_has_a_chip_a_token_and_joins_to_the_answer():
    for side, positions in (("base", SHIFT.base), ("adapted", SHIFT.adapted)):
        drawn = chips(answer(side, positions))
        assert len(drawn) == len(positions)
        assert "".join(text for _, text in drawn) == "".join(p.text for p in positions)
        assert all(attributes["aria-label"] for attributes, _ in drawn)


def test_no_token_becomes_markup():
    drawn = draw_shift(SHIFT, END)
    assert "<b>0</b>" not in drawn  # a candidate's text
    assert "<" not in re.search(r'data-tokens="(\[.*?)"', drawn)[1]
    drawn += draw_writing([ATTACK, "<script>"])
    drawn += draw_error(BadQuestion("adapter-not-loaded", name=ATTACK, loaded="none"))
    assert not tags(drawn) & {"script", "img"} and "button" in tags(drawn)


def test_a_chip_says_its_class_its_level_and_the_end():
    drawn = [attributes for attributes, _ in chips(answer("adapted", SHIFT.adapted))]
    assert [a["data-class"] for a in drawn] == ["unshifted", "shifted", "marginal", "shifted"]
    assert [a["data-kl"] for a in drawn] == ["0", "4", "1", "2"]
    assert ["data-end" in a for a in drawn] == [False, False, False, True]
    shown = [attributes.get("data-shown") for attributes, _ in chips(answer("base", SHIFT.base))]
    assert shown == [None, "␣", "⋯", None, "⏎", None, None]


def test_where_the_answers_part_is_marked_in_both_and_told():
    drawn = draw_shift(SHIFT, END)
    assert drawn.count(PARTED) == 2 and 'data-parts="1"' in drawn
    for side in ("base", "adapted"):
        before = answer(side, getattr(SHIFT, side)).split(PARTED)[0]
        assert before.count("data-i=") == 1
    assert "part at token 2" in drawn and "<b>75%</b>" in drawn
    together = draw_shift(Shift("lens", SHIFT.adapted, SHIFT.adapted, None), END)
    assert PARTED not in together and "never part" in together


def test_an_empty_answer_is_drawn():
    drawn = draw_shift(Shift("lens", (), (), None), END)
    assert "no answer yet" in drawn and "<svg" not in drawn


def test_the_curve_has_both_models_and_its_last_words():
    drawn = draw_end_probability(SHIFT, END)
    lines = re.findall(r'<path class="(\w+) of-linear" d="M([^"]+)"', drawn)
    assert [name for name, _ in lines] == ["base", "adapted"] * 2
    assert [d.count("L") + 1 for _, d in lines] == [7, 7, 4, 4]
    assert lines[3][1].endswith("100.00 3.00")  # 0.97 at the last token, measured from the top
    assert "wants to stop with <b>97%</b>, the base model with <b>9.7%</b>" in drawn
    assert "never rose above <b>0.1%</b>" in drawn


@pytest.mark.parametrize("share,said", [(0, "0%"), (1, "100%"), (0.3812, "38%"), (0.0995, "10%"), (0.0312, "3.1%"),
                                        (0.00039, "0.039%"), (1e-6, "0.0001%"), (1e-9, "<0.0001%")])
def test_percentages_have_two_digits(share, said):
    assert percent(share) == said


def sites() -> Anatomy:
    """Two layers; layer 1 has no second module."""
    def attention(layer: int, ratio: float) -> Site:
        head = {part: Size(ratio * (i + 1), 10.0) for i, part in enumerate("qkv")}
        return Site(layer, "query_key_value", Size(ratio, 10.0), {}, (head,) * 4)

    return Anatomy("lens", Size(1, 10), (attention(0, 1.0), Site(0, "dense", Size(5.0, 10.0), {}, ()),
                                         attention(1, 2.0)))


def test_the_heat_map_has_a_cell_a_site_and_heads_behind_each_attention():
    drawn = draw_map(sites())
    assert drawn.count("data-layer=") == 2 and drawn.count("data-heads=") == 2
    assert drawn.count("<td data-kl=") == 3 + 2 * 4 * 3 and drawn.count(">–</td>") == 1
    assert 'data-heads="0" hidden' in drawn and 'data-heads="1">' in drawn  # the one that changed most is open
    assert "layer 0, “attention: output”: the update is <b>50%</b>" in drawn
    figure = template("changed/adapter_map").figure
    assert figure(Size(1.0, 0.0).ratio) == "–" and figure(Size(0.021, 1.0).ratio) == "2.1%"


def test_the_receipt_is_folded_and_a_problem_is_not():
    proof = Receipt("lens", "ab" * 32, 8, 24, 48, 0, 24, 20.5, 1e-5, True)
    drawn = draw("changed/view", "receipt", facts=proof.as_dict())
    assert drawn.strip().startswith("<details") and "all checks passed" in drawn and "20.5" in drawn
    proof = Receipt("lens", "ab" * 32, 8, 24, 48, 0, 0, 0.0, 1e-5, True)
    drawn = draw("changed/view", "receipt", facts=proof.as_dict()).strip()
    assert drawn.startswith('<p class="problem"') and "every B matrix is zero" in drawn and "passed" not in drawn


def test_score_gives_the_shift_of_a_question_as_json(engine):
    found = changed.Changes(engine).score("哈工大首任校长是谁？", max_new_tokens=12)
    assert json.dumps(found, allow_nan=False) and set(found["sentence"]) == {"en", "zh"}
    for name, answer in found["answers"].items():
        assert answer["summary"]["tokens"] == len(answer["tokens"]) > 0
        assert all(t[name]["rank"] == 1 for t in answer["tokens"])  # greedy: each model's own choice
    same = changed.Changes(engine).score("哈工大首任校长是谁？", strength=0.0, max_new_tokens=8)
    assert same["parts_at"] is None and same["answers"]["adapted"]["summary"]["shifted"] == 0


def test_a_checkpoint_of_the_timeline_is_scored_too():
    """It is loaded and offered, but is no column of a comparison unless asked for; asking for it ended in an error."""
    engine = LocalEngine(str(BASE), str(ADAPTER), device="cpu", timeline=[str(BASE.parent / "timeline" / "step-100")])
    assert [v.adapter for v in engine.variants()] == [None, "lens"]
    found = changed.Changes(engine).score("哈工大首任校长是谁？", adapter="step-100", max_new_tokens=8)
    assert found["variant"] == "step-100" and found["answers"]["adapted"]["summary"]["tokens"] > 0


@pytest.mark.parametrize("bad, code, said", [
    ({"adapter": "nobody"}, "adapter-not-loaded", "allowed: lens"), ({"adapter": 7}, "adapter-not-loaded", "7"),
    ({"strength": 99.0}, "number-out-of-range", "-10"), ({"strength": float("nan")}, "number-out-of-range", "nan"),
    ({"max_new_tokens": 5000}, "whole-number-out-of-range", "4096"),
    ({"question": 7}, "text-expected", "question is 7")])
def test_score_answers_what_it_cannot_do_by_code_and_in_both_languages(engine, bad, code, said):
    error = changed.Changes(engine).score(**{"question": "校训？", **bad})["error"]
    assert error["code"] == code and said in error["message"] and error["message_zh"] != error["message"]


def test_the_page_writes_first_then_compares_and_knows_its_own_question(engine):
    changes = changed.Changes(engine)
    drawn = list(changes.page(FIRST_QUESTION, FIRST_INSTRUCTION))
    assert 'aria-busy="true"' in drawn[0][0] and "heat" in drawn[0][1]
    texts = [c.text for c in list(compare(engine, Question(FIRST_QUESTION, FIRST_INSTRUCTION)))[-1]]
    found = [shift for shift, *_ in drawn if isinstance(shift, str)][-1]
    answers = chips(found)
    assert "".join(text for _, text in answers).replace("</s>", "") == "".join(texts)
    again, _, *inside = next(changes.page(FIRST_QUESTION, FIRST_INSTRUCTION))
    assert again == found and inside == list(drawn[-1][2:]) and "data-part" in inside[0] and "data-leads" in inside[1]
    *_, (problem, *_) = changes.page("  ", "")
    assert "the question is empty" in problem


def test_without_an_adapter_the_tab_says_so():
    with gr.Blocks() as blocks:
        assert changed.build(StandInEngine()) is None
    assert any("No adapter is loaded" in b.value for b in blocks.blocks.values() if isinstance(b, gr.HTML))


class Shown(StandInEngine):
    """An engine without a model, for the page."""

    def ask(self, *asked, **settings):
        time.sleep(0.5)  # so long that a second question for the same would come before the first is answered
        return super().ask(*asked, **settings)

    def adapter_norms(self, name):
        return sites()


@pytest.fixture(scope="module")
def shown() -> Shown:
    return Shown(loaded("lens"), says=lambda question, variant: (ATTACK, "stop"))


@pytest.fixture(scope="module")
def page(browser, shown):
    """The tab alone, behind another one, in headless Chromium at a phone's width."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(changed.Shift, "of", lambda engine, columns: SHIFT)
        with opened(browser, lambda: changed.build(shown), ".ribbon") as page:
            page.mouse.move(0, 0)  # or a token may be scrolled under it
            yield page


def test_opening_the_tab_asks_once(page, shown):
    page.wait_for_timeout(500)
    assert [one[0] for one in shown.asked] == [FIRST_QUESTION]


def test_what_tokens_say_stays_text_in_the_browser(page):
    assert page.locator(".ribbon button").all_text_contents() == [p.text for p in (*SHIFT.base, *SHIFT.adapted)]
    assert page.title() == "tab"
    assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_the_closer_look_opens_where_the_answers_part_and_follows_keys(page):
    look = page.locator(".look")
    expect(look.locator("strong")).to_have_text("变")
    expect(look.locator("[data-side=base] li")).to_have_count(6)  # its top 5, and the token that is not among them
    expect(look.locator("[data-side=adapted] li")).to_have_count(5)
    page.wait_for_timeout(500)  # the last drawing replaces the one that grew
    page.locator("article[data-side=adapted] [aria-current]").press("End")
    expect(look.locator("strong")).to_have_text("</s>")
    expect(look.locator(".badge")).to_contain_text("shifted")
    expect(page.locator(".spoken")).to_contain_text("base: #7, 50%")
    page.keyboard.press("ArrowLeft")
    expect(look.locator("strong")).to_have_text("略")
    page.locator("article[data-side=base] button").first.click()
    expect(look.locator("strong")).to_have_text(WORDS[0])


def test_colour_and_scale_are_switched(page):
    chip = page.locator("article[data-side=adapted] [data-kl='1']")
    expect(chip).to_have_css("border-bottom-style", "dashed")
    page.locator("[value=kl]").check()
    expect(chip).to_have_css("border-bottom-style", "solid")
    expect(page.locator("path.adapted.of-log").last).to_be_hidden()
    page.locator("[name=lens-scale][value=log]").check()
    expect(page.locator("path.adapted.of-log").last).to_be_visible()


def test_a_layers_attention_opens_its_heads_by_key(page):
    page.locator("[data-layer='0']").focus()
    page.keyboard.press("Enter")
    expect(page.locator("[data-heads='0']")).to_be_visible()
    expect(page.locator("[data-heads='1']")).to_be_hidden()
