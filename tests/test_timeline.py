"""The Timeline tab: its checkpoints and curve, one batch for the whole grid, and the scrubber in a browser."""

from __future__ import annotations

import json
import re
from pathlib import Path

import gradio as gr
import pytest
from one_tab import StandInEngine, column, loaded, opened
from playwright.sync_api import expect

from compare.engine.interface import LoadedAdapter
from compare.page.shared import held_out
from compare.page.shared.loss_curve import Loss, Scale, position, read_losses, smoothed
from compare.page.shared.templates import template
from compare.page.timeline import tab as timeline
from compare.page.timeline.checkpoint_grid import LENGTH, STRENGTHS, Answer, Checkpoint, CheckpointGrid

ATTACK = "<img src=x onerror=\"document.title='owned'\">"
STEPS = (100, 400)


def adapter(path: Path, name: str, losses=()) -> LoadedAdapter:
    folder = path / name
    folder.mkdir()
    (folder / "training.json").write_text(json.dumps({"losses": [vars(x) for x in losses]}))
    return loaded(name, folder, losses[-1].step if losses else None)


def engine_of(path: Path, names=("lens", "step-400", "step-100", "other")) -> StandInEngine:
    """An engine without a model: base repeats itself, a checkpoint names itself, its strength and the question."""
    losses = [Loss(step, 4 / step) for step in range(25, 801, 25)]
    return StandInEngine(*(adapter(path, n, losses if n == "lens" else ()) for n in names), says=lambda question, v: (
        (f"{v.name}: {question}", "stop") if v.adapter else ("高校" * 20, "length")))


@pytest.fixture
def speaker(tmp_path):
    return engine_of(tmp_path)


@pytest.fixture
def grid(speaker):
    return CheckpointGrid(timeline.checkpoints(speaker), read_losses(speaker.adapters["lens"].path))


def test_checkpoints_are_found_by_name_and_the_first_adapter_ends_them(speaker):
    assert timeline.checkpoints(speaker) == [Checkpoint("step-100", 100), Checkpoint("step-400", 400),
                                             Checkpoint("lens", 800)]


def test_a_training_whose_end_is_a_checkpoint_itself(tmp_path):
    engine = engine_of(tmp_path, ("run-checkpoint-20", "run-checkpoint-5"))
    assert [c.step for c in timeline.checkpoints(engine)] == [5, 20]


def test_the_grid_is_one_batch_of_every_strength_and_checkpoint_beside_the_base(speaker, grid):
    *_, html = timeline.Timeline(speaker, grid, ()).show("别的问题")
    wanted = [(None, 0.0)] + [(c.name, s) for s in STRENGTHS for c in grid.checkpoints]
    [(_, _, variants, sampling)] = speaker.asked
    assert [(v.adapter, v.strength) for v in variants] == wanted
    assert sampling.max_new_tokens == LENGTH == 48
    said = r'data-i="(\d)" data-strength="1" [^>]*><span class="said" lang="zh-CN" dir="auto">([^<]*)'
    cells = dict(re.findall(said, html))
    assert cells == {"1": "step-100@1: 别的问题", "2": "step-400@1: 别的问题", "3": "lens@1: 别的问题"}


def test_text_of_models_and_visitors_is_escaped(speaker, grid):
    *_, html = timeline.Timeline(speaker, grid, ()).show(ATTACK)
    assert "<img" not in html and "&lt;img" in html


def test_right_and_wrong_are_marked_for_held_out_questions_alone():
    row = next(r for r in held_out.rows().values() if r.keywords)
    right, wrong = column("、".join(row.keywords)), column("不知道")
    assert Answer.of(right, row).marks == ["right", "stop"] and Answer.of(wrong, row).marks == ["wrong", "stop"]
    assert Answer.of(right, None).marks == ["stop"]
    assert list(Answer.of(column("", None), row).marks) == ["writing"]  # not while it is written


@pytest.mark.parametrize("text, reason, kinds", [
    ("高校" * 20, "length", ["loop", "length"]), ("高" * 40, "loop", ["loop"]),
    ("".join(map(chr, range(100, 140))), "length", ["length"]), ("高校", "stop", ["stop"]), ("高", None, ["writing"])])
def test_loop_stop_and_cut_are_marked(text, reason, kinds):
    answer = Answer.of(column(text, reason), None)
    assert list(answer.marks) == kinds
    html = template("timeline/view").marks(answer, LENGTH)
    assert re.findall('data-kind="([a-z]+)"', html) == kinds


def test_a_held_out_question_keeps_its_own_instruction(speaker, grid):
    row = next(r for r in held_out.rows().values() if not r.instruction)
    list(timeline.Timeline(speaker, grid, ()).show(row.input))
    list(timeline.Timeline(speaker, grid, ()).show("别的"))
    assert [one[:2] for one in speaker.asked] == [(row.input, ""), ("别的", "请回答下面的问题")]


def test_offered_questions_are_held_out_and_answered_once(speaker, grid):
    [first, *_] = questions = timeline.offered(speaker)
    assert set(questions) <= set(held_out.rows())
    tab = timeline.Timeline(speaker, grid, questions)
    whole, again = list(tab.show(first)), list(tab.show(first))
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
    assert "no loss to draw" in CheckpointGrid([Checkpoint("a", 5)], ()).draw("q")


@pytest.mark.parametrize("names,told", [((), "No adapter is loaded"), (("lens",), "No checkpoint on the way")])
def test_what_is_missing_is_said(tmp_path, names, told):
    with gr.Blocks() as blocks:
        timeline.build(engine_of(tmp_path, names))
    assert any(told in str(b.value) for b in blocks.blocks.values() if isinstance(b, gr.HTML))


@pytest.fixture(scope="module")
def page(tmp_path_factory, browser):
    """The tab alone, behind another one, in headless Chromium."""
    speaker = engine_of(tmp_path_factory.mktemp("adapters"))
    with opened(browser, lambda: timeline.build(speaker), "#lens-step") as page:
        yield page


def first_question():
    return timeline.offered(StandInEngine())[0]


def test_the_grid_fills_when_first_seen_and_opens_at_the_end(page):
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
    assert page.locator(".asked").text_content() in held_out.rows()
    assert page.title() == "tab"


def test_nothing_is_wider_than_a_phone(page):
    assert page.evaluate("document.documentElement.scrollWidth") == 390
