"""The Train tab in headless Chromium on the real page: ten real steps, reloaded, stopped, resumed and compared."""

from __future__ import annotations

import json
import re
import zipfile

import gradio as gr
import pytest
from playwright.sync_api import expect

from compare.page.training import tab as training
from compare.page.training.panel import values_of
from compare.server.permissions import Permission
from compare.server.trainings.job import Job, find_jobs
from compare.server.trainings.trainings import Trainings
from tests.open_page import WAIT
from tests.test_trainings import HERE, stand_in

pytest_plugins = ["tests.open_page"]

ATTACK = "<img src=x onerror=\"document.title='owned'\">"
LONG = 120_000  # ms that a state of a training may take to come, on a busy machine


def train_tab(page):
    label = re.compile("^(训练|Train)$")
    page.locator("#question textarea").wait_for(timeout=WAIT)  # a page that is loaded again has no tabs for a moment
    tab = page.get_by_role("tab", name=label)
    if not tab.count():  # a narrow page keeps it in the menu behind the others
        page.locator(".overflow-menu > button").click()
        tab = page.locator(".overflow-dropdown button").filter(has_text=label)
    tab.click()
    page.locator("#training-view").wait_for(timeout=WAIT)
    return page


def job_is(page, *states: str):
    expect(page.locator(".job")).to_have_attribute("data-state", re.compile(f"^({'|'.join(states)})$"), timeout=LONG)


def step(page) -> int:
    return int(page.locator("[role=progressbar]").get_attribute("aria-valuenow"))


def compared(page, index: int, name: str):
    """Wait until a column of Compare is that adapter's and finished."""
    expect(page.locator(f"#column-{index} header")).to_contain_text(name, timeout=WAIT)
    expect(page.locator(f"#column-{index}")).to_have_attribute("data-state", re.compile("stop|length"), timeout=WAIT)
    return page.locator(f"#column-{index} .lens-answer").get_attribute("data-text")


def stopped(page) -> int:
    """Start ten steps on the shipped rows, load the page again, stop them: the step they had come to."""
    expect(page.locator(".preview")).to_have_attribute("data-rows", re.compile(r"\d{4}"), timeout=LONG)
    expect(page.locator(".preview .counts")).to_contain_text("行可用")
    page.locator("#training-steps input[type=number]").fill("10")
    page.locator("#training-start").click()
    job_is(page, "starting", "running")
    page.reload()  # the training goes on, and the page finds it again
    train_tab(page)
    job_is(page, "running")
    expect(page.locator("#training-start")).to_be_disabled()
    expect(page.locator(".learning article").first).to_be_visible(timeout=LONG)
    page.locator("[data-do=stop]").click()
    job_is(page, "stopped")
    assert 1 <= step(page) < 10
    expect(page.locator(f"a.column[data-column$=checkpoint-{step(page)}]")).to_be_visible(timeout=WAIT)
    return step(page)


@pytest.mark.slow
def test_ten_steps_are_started_reloaded_stopped_resumed_and_compared(visit):
    page = train_tab(visit())
    stopped_at = stopped(page)
    expect(page.locator(f"a.column[data-column=trained-1-checkpoint-{stopped_at}]")).to_be_visible(timeout=WAIT)
    page.locator("[data-do=resume]").click()
    job_is(page, "running")
    job_is(page, "done")
    assert step(page) == 10 and page.locator(".plot").get_attribute("data-losses") == "10"
    expect(page.locator("[data-figure=speed]")).to_have_text(re.compile(r"\d"))
    expect(page.locator("#training-start")).to_be_enabled()
    expect(page.locator("a.column[data-column=trained-1]")).to_be_visible(timeout=WAIT)
    page.locator("a.column[data-column=trained-1]").click()
    said = compared(page, 2, "trained-1")
    assert said and said != page.locator("#adapted .lens-answer").get_attribute("data-text")
    page.locator("#columns-fold > button").click()
    page.locator("#columns [data-do=copy]").last.click()
    page.locator("#columns [data-key=adapter]").last.select_option(f"trained-1-checkpoint-{stopped_at}")
    compared(page, 3, f"trained-1-checkpoint-{stopped_at}")


@pytest.mark.slow  # its kind without a browser: test_trainings
def test_a_training_is_started_reloaded_stopped_downloaded_continued_and_deleted(visit):
    page = train_tab(visit())
    at, number = stopped(page), page.locator(".job").get_attribute("data-number")
    told = page.locator(".job details").filter(has_text="同样的训练").locator("code")
    expect(told).to_contain_text(re.compile("python -m train .*--max-steps=10 .*--output runs/mine"))
    page.locator("[data-do=pack]").click()
    with page.expect_download(timeout=WAIT) as taken:
        page.locator("#training-zip a").first.click()
    with zipfile.ZipFile(taken.value.path()) as packed:
        assert {"adapter_config.json", "adapter_model.safetensors", "chat_template.jinja", "training.json"} <= {
            name.rpartition("/")[2] for name in packed.namelist()}
        about = json.loads(packed.read(next(name for name in packed.namelist() if name.endswith("training.json"))))
    assert about["steps"] == at, "Stop kept the step that it had come to"
    page.locator("[data-do=resume]").click()
    job_is(page, "running", "done")
    page.locator("[data-do=stop]").click()
    job_is(page, "stopped", "done")
    assert step(page) >= at
    for answer, left in (("dismiss", 1), ("accept", 0)):
        page.once("dialog", lambda dialog, answer=answer: getattr(dialog, answer)())
        page.locator("[data-do=remove]").click()
        page.wait_for_timeout(2000)  # longer than a look of the page
        expect(page.locator(f".job[data-number='{number}']")).to_have_count(left, timeout=WAIT)


@pytest.fixture
def uploading(visit, tmp_path):
    """A page on which a file of rows was uploaded, as a function of its text."""
    page = train_tab(visit())
    page.get_by_text("上传一份", exact=True).click()
    expect(page.locator("#training-preview")).to_contain_text("选一个文件", timeout=WAIT)

    def upload(text: str):
        path = tmp_path / "mine.jsonl"
        path.write_text(text, encoding="utf-8")
        page.locator("#training-file input[type=file]").set_input_files(path)
        return page
    return upload


def test_an_uploaded_file_is_shown_with_its_tokens_and_as_text(uploading):
    rows = [{"input": ATTACK, "output": "规格严格"}, {"input": "校训？", "output": "功夫到家"}]
    page = uploading("\n".join(map(json.dumps, rows)))
    expect(page.locator(".preview")).to_have_attribute("data-rows", "2", timeout=LONG)
    expect(page.locator(".preview .rows")).to_contain_text(ATTACK)
    expect(page.locator(".preview .bars i").first).to_be_attached()
    page.locator(".preview summary").first.click()
    expect(page.locator(".preview pre b")).to_have_text("规格严格</s>")
    assert page.title() == "LoRA Lens" and page.locator("#training-preview img").count() == 0


def test_a_bad_row_is_named_and_can_be_skipped(uploading):
    page = uploading('{"input": "校训？", "output": "功夫到家"}\n{"input": "校训？"}')
    expect(page.locator("#training-preview [role=alert]")).to_contain_text("mine.jsonl line 2", timeout=LONG)
    page.locator("#training-skip input").click()
    expect(page.locator(".preview .counts")).to_contain_text("跳过了 1 个坏行", timeout=LONG)


def test_the_panel_changes_the_command_that_is_shown_to_copy(visit):
    page = train_tab(visit())
    shown = page.locator("#training-preview details").filter(has_text="命令行").locator("code")
    expect(shown).to_contain_text("python -m train --base", timeout=LONG)
    expect(shown).not_to_contain_text("--r=")
    page.get_by_text("更多设置", exact=True).click()
    expect(page.locator("#training-learning-rate input")).to_have_value("0.001")
    page.locator("#training-r input").fill("4")
    expect(shown).to_contain_text("--r=4", timeout=LONG)
    page.locator("#training-recipe").get_by_text("seed", exact=False).click()
    expect(page.locator("#training-batch input")).to_have_value("1", timeout=LONG)


def test_start_without_a_file_says_so_and_starts_nothing(visit):
    page = train_tab(visit())
    page.get_by_text("上传一份", exact=True).click()
    page.locator("#training-file").wait_for(timeout=WAIT)
    page.locator("#training-start").click()
    expect(page.locator("#training-told [role=alert]")).to_contain_text("没有选文件", timeout=WAIT)


@pytest.mark.parametrize("width, locale", [(390, "zh-CN"), (1440, "en-GB")])
def test_the_tab_fits_and_speaks_both_languages(visit, width, locale):
    page = train_tab(visit(width=width, locale=locale))
    page.wait_for_timeout(500)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    words = "开始训练" if locale == "zh-CN" else "Start training"
    expect(page.locator("#training-start")).to_have_text(words)


@pytest.mark.parametrize("changes, from_client, started", [
    ({"origin": "https://elsewhere.example"}, False, False), ({}, True, False), ({}, False, True)],
    ids=["another origin", "a path", "the page"])
def test_gradio_asked_from_elsewhere_or_for_a_path_starts_nothing(tiny_base, tmp_path, rows_file, monkeypatch, changes,
                                                                  from_client, started):
    from starlette.testclient import TestClient

    monkeypatch.setattr(Job, "run", lambda self: None)
    trainings = Trainings(stand_in(tiny_base), Permission(None), tmp_path / "home")
    with gr.Blocks() as blocks:
        training.build(trainings.engine, trainings)
    blocks.has_launched = True  # from then on Gradio takes no file but those that were uploaded
    [start] = [i for i, fn in blocks.fns.items() if fn.name == "start"]
    given = {"path": str(rows_file), "meta": {"_type": "gradio.FileData"}} if from_client else None
    data = ["upload" if from_client else "shipped", given, "lens", 10, False, *values_of("lens")]
    client = TestClient(gr.routes.App.create_app(blocks), base_url="http://127.0.0.1:7860")
    answer = client.post("/gradio_api/run/predict", json={"fn_index": start, "session_hash": "x", "data": data},
                         headers={**HERE, **changes})
    assert answer.status_code == (500 if from_client else 200)
    assert bool(find_jobs(trainings.home)) is started
    assert ("did not come from this page" in answer.text) is bool(changes)
