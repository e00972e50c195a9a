"""The Timeline tab: its checkpoints and curve, one batch for the whole grid, and the scrubber in a browser."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import pytest
from one_tab import Column, opened
from playwright.sync_api import expect

from compare.page.shared import held_out as heldout
from compare.page.shared.loss_curve import Loss, Scale, position, read_losses, smoothed
from compare.page.timeline import tab as timeline
from compare.page.timeline.checkpoint_grid import LENGTH, STRENGTHS, Checkpoint, Film, Shown

ATTACK = "<img src=x onerror=\"document.title='owned'\">"
STEPS = (100, 400)


def adapter(path: Path, name: str, losses=()) -> SimpleNamespace:
    folder = path / name
    folder.mkdir()
    (folder / "training.json").write_text(json.dumps({"losses": [vars(x) for x in losses]}))
    return SimpleNamespace(name=name, path=folder, sha256="0" * 64)


class Speaker:
    """An engine without a model: base repeats itself, a checkpoint names itself, its strength and the question."""

    def __init__(self, path: Path, names=("lens", "step-400", "step-100", "other")):
        losses = [Loss(step, 4 / step) for step in range(25, 801, 25)]
        self.adapters = {n: adapter(path, n, losses if n == "lens" else ()) for n in names}
        self.asked: list[tuple] = []

    @property
    def files(self):
        return next(iter(self.adapters.values()), None)

    def compare(self, question, instruction, variants, sampling):
        self.asked.append((question, instruction))
        self.variants, self.sampling = variants, sampling
        yield [Column("", None) for _ in variants]
        yield [Column(f"{v.name}: {question}" if v.adapter else "高校" * 20, "stop" if v.adapter else "length",
                      [] if v.adapter else [5, 6] * 20) for v in variants]


@pytest.fixture
def speaker(tmp_path):
    return Speaker(tmp_path)


@pytest.fixture
def film(speaker):
    return Film(timeline.checkpoints(speaker), read_losses(speaker.files.path))


def test_checkpoints_are_found_by_name_and_the_first_adapter_ends_them(speaker):
    assert timeline.checkpoints(speaker) == [Checkpoint("step-100", 100), Checkpoint("step-400", 400),
                                             Checkpoint("lens", 800)]


def test_a_training_whose_end_is_a_checkpoint_itself(tmp_path):
    engine = Speaker(tmp_path, ("run-checkpoint-20", "run-checkpoint-5"))
    assert [c.step for c in timeline.checkpoints(engine)] == [5, 20]


def test_the_grid_is_one_batch_of_every_strength_and_checkpoint_beside_the_base(speaker, film):
    *_, html = timeline.Playing(speaker, film, ()).show("别的问题")
    wanted = [(None, 0.0)] + [(c.name, s) for s in STRENGTHS for c in film.checkpoints]
    assert [(v.adapter, v.strength) for v in speaker.variants] == wanted and len(speaker.asked) == 1
    assert speaker.sampling.max_new_tokens == LENGTH == 48
    cells = dict(re.findall(r'data-i="(\d)" data-strength="1" [^>]*><span class="said" lang="zh-CN">([^<]*)', html))
    assert cells == {"1": "step-100@1: 别的问题", "2": "step-400@1: 别的问题", "3": "lens@1: 别的问题"}


def test_text_of_models_and_visitors_is_escaped(speaker, film):
    *_, html = timeline.Playing(speaker, film, ()).show(ATTACK)
    assert "<img" not in html and "&lt;img" in html


def test_right_and_wrong_are_marked_for_held_out_questions_alone():
    row = next(r for r in heldout.rows().values() if r.keywords)
    right, wrong = Column("、".join(row.keywords)), Column("不知道")
    assert 'data-kind="right"' in Shown.of(right, row).marks and 'data-kind="wrong"' in Shown.of(wrong, row).marks
    assert not re.search("right|wrong", Shown.of(right, None).marks)
    assert not re.search('"right"|"wrong"', Shown.of(Column("", None), row).marks)  # not while it is written


@pytest.mark.parametrize("column,kinds", [
    (Column("高校" * 20, "length", [5, 6] * 20), ["loop", "length"]), (Column("高校", "loop", [5] * 40), ["loop"]),
    (Column("高校", "length", list(range(40))), ["length"]), (Column("高校"), ["stop"]),
    (Column("高", None), ["writing"])])
def test_loop_stop_and_cut_are_marked(column, kinds):
    assert re.findall('data-kind="([a-z]+)"', Shown.of(column, None).marks) == kinds


def test_a_held_out_question_keeps_its_own_instruction(speaker, film):
    row = next(r for r in heldout.rows().values() if not r.instruction)
    list(timeline.Playing(speaker, film, ()).show(row.input))
    list(timeline.Playing(speaker, film, ()).show("别的"))
    assert speaker.asked == [(row.input, ""), ("别的", "请回答下面的问题")]


def test_offered_questions_are_held_out_and_answered_once(speaker, film):
    [first, *_] = questions = timeline.offered()
    assert set(questions) <= set(heldout.rows())
    playing = timeline.Playing(speaker, film, questions)
    whole, again = list(playing.show(first)), list(playing.show(first))
    assert len(speaker.asked) == 1 and again == whole[-1:]


def test_the_curve_is_read_smoothed_and_placed():
    losses = [Loss(10, 1.0), Loss(20, 2.0), Loss(30, 6.0)]
    assert [x.loss for x in smoothed(losses)] == [3.0, 3.0, 3.0]
    steps = [0, 100, 400]
    assert [position(s, steps) for s in (0, 50, 100, 250, 400, 999)] == [0, 0.5, 1, 1.5, 2, 2]
    scale = Scale.of([Loss(1, 0.1), Loss(2, 10.0)])
    assert scale.top(10) < 40 < scale.top(1) < 60 < scale.top(0.1) and scale.top(1) == pytest.approx(50)


def test_losses_that_cannot_be_drawn_are_left_out(tmp_path):
    assert read_losses(tmp_path) == ()
    (tmp_path / "training.json").write_text('{"losses": [{"step": 20, "loss": 2}, {"step": 10, "loss": NaN}, '
                                            '{"step": 5, "loss": 3}]}')
    assert read_losses(tmp_path) == (Loss(5, 3.0), Loss(20, 2.0))
    assert "no loss was logged" in Film([Checkpoint("a", 5)], ()).draw("q")


@pytest.mark.parametrize("names,told", [((), "No adapter is loaded"), (("lens",), "No checkpoint on the way")])
def test_what_is_missing_is_said(tmp_path, names, told):
    with gr.Blocks() as blocks:
        timeline.build(Speaker(tmp_path, names))
    assert any(told in str(b.value) for b in blocks.blocks.values() if isinstance(b, gr.HTML))


@pytest.fixture(scope="module")
def page(tmp_path_factory, browser):
    """The tab alone, behind another one, in headless Chromium."""
    speaker = Speaker(tmp_path_factory.mktemp("adapters"))
    with opened(browser, lambda: timeline.build(speaker), "#lens-step") as page:
        yield page


def first_question():
    return timeline.offered()[0]


def test_the_film_fills_when_first_seen_and_opens_at_the_end(page):
    expect(page.locator(".now")).to_have_text(f"lens@1: {first_question()}", timeout=30_000)
    expect(page.locator("[data-step]")).to_have_text("800")
    expect(page.locator('.cell[aria-pressed="true"]')).to_have_attribute("data-i", "3")


def test_the_slider_goes_from_checkpoint_to_checkpoint_and_the_marker_along_the_curve(page):
    slider, marker = page.locator("#lens-step"), page.locator(".marker")
    slider.press("ArrowLeft")
    expect(page.locator(".now")).to_have_text(f"step-400@1: {first_question()}")
    expect(page.locator("[data-loss]")).to_have_text("0.010")  # 4 / 400
    low = marker.evaluate("e => parseFloat(e.style.top)")
    slider.press("ArrowLeft")
    slider.press("ArrowLeft")
    expect(page.locator("[data-step]")).to_have_text("0")
    assert slider.get_attribute("aria-valuetext") == "0: " + "高校" * 20
    assert marker.evaluate("e => parseFloat(e.style.top)") < low and marker.evaluate("e => e.style.left") == "0%"


def test_strength_and_grid_choose_what_is_shown_large(page):
    page.get_by_text("1.5", exact=True).first.click()
    page.locator("#lens-step").press("ArrowRight")
    expect(page.locator(".now")).to_have_text(f"step-100@1.5: {first_question()}")
    page.locator('.cell[data-i="2"][data-strength="2"]').click()
    expect(page.locator(".now")).to_have_text(f"step-400@2: {first_question()}")
    page.locator('.cell[aria-pressed="true"]').press("ArrowUp")
    expect(page.locator(".now")).to_have_text(f"step-400@1.5: {first_question()}")
    assert page.evaluate("document.activeElement.dataset.strength") == "1.5"


def test_play_runs_from_the_base_to_the_end_and_pauses(page):
    page.locator("#lens-step").press("ArrowRight")
    play = page.locator("[data-play]")
    play.click()
    expect(play).to_have_attribute("aria-pressed", "true")
    expect(page.locator(".now")).to_have_text("高校" * 20)
    expect(page.locator("[data-step]")).to_have_text("800", timeout=15_000)
    expect(play).to_have_attribute("aria-pressed", "false")


def test_another_question_keeps_the_place(page):
    page.locator('.cell[data-i="1"][data-strength="0.5"]').click()
    page.locator("#timeline-question textarea").fill(ATTACK)
    page.locator("#timeline-question textarea").press("Enter")
    expect(page.locator(".now")).to_have_text(f"step-100@0.5: {ATTACK}", timeout=30_000)
    page.locator('[data-question=""]').click()
    expect(page.locator(".asked")).not_to_have_text(ATTACK, timeout=30_000)
    assert page.locator(".asked").text_content() in heldout.rows()
    assert page.title() == "tab"


def test_nothing_is_wider_than_a_phone(page):
    assert page.evaluate("document.documentElement.scrollWidth") == 390
