"""The Train tab: rows and settings, what they would teach, and the training under way, which outlives the page.

Lays out the tab and joins it to the workshop; preview.py and progress.py draw. Every request that changes something is
checked by the workshop's permission, and a file is taken only from where Gradio stored the visitor's upload.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from html import escape
from pathlib import Path

import gradio as gr
from gradio.utils import get_upload_folder

from compare.page.shared.html import own, read
from compare.page.shared.words import Words, both, heading
from compare.page.training import preview, progress
from compare.server.permissions import OFF, Refused
from compare.server.trainings.trainings import ENDINGS, RECIPES, STEPS, Upload, Workshop

section = partial(own, css_template=read("shared/tab.css", "training/tab.css"), 
                  elem_classes=["lens-own", "lens-training"])
TICK = 1.5  # seconds between two looks of a page
MOST_STEPS = 2000  # of the slider
SHIPPED, UPLOADED = "shipped", "upload"
LABELS = {  # what Gradio draws, for the language switch
    "训练": "Train", "题目": "Rows", "自带的哈工大问答": "The shipped HIT questions", "上传一份": "Upload a file",
    "问答文件（instruction、input、output）": "File of rows (instruction, input, output)", "跳过坏行": "Skip bad rows",
    "做法": "Recipe", "lens：答完就停": "lens: learns to stop", "seed：最初的实验": "seed: the original experiment",
    "步数": "Steps", "每步学 16 行（seed：1 行）": "16 rows a step (seed: 1)", "开始训练": "Start training",
}
READING = Words("正在读题、数 token……", "Reading the rows and counting tokens…")
NO_FILE_YET = Words("选一个文件：每行一个 JSON 对象，或带表头的 CSV。",
                    "Choose a file: one JSON object a line, or CSV with a header.")
BROKEN = Words("出错了，请看服务器日志。", "Something went wrong; see the server's log.")
# The steps as they stand in the field: Gradio hears of a number that was typed a moment later than of the press.
TYPED = """(rows, file, recipe, steps, skip) =>
  [rows, file, recipe, Number(document.querySelector('#training-steps input[type=number]')?.value ?? steps), skip]"""


def problem(html: str) -> str:
    return f'<p class="problem" role="alert">{html}</p>'


def headers(request: gr.Request) -> dict[str, str]:
    """A request's headers by lower-case name."""
    return {str(name).lower(): str(value) for name, value in dict(request.headers).items()}


@dataclass(frozen=True)
class Training:
    """What the tab's controls do. Each answers with (view, what is shown now, Start, notice)."""

    shop: Workshop
    known: dict[str, str] = field(default_factory=dict)  # recipe → preview of the shipped rows

    def allow(self, request: gr.Request) -> None:
        self.shop.permission.check(headers(request))

    def upload(self, rows: object, file: str | None) -> Upload | None:
        return Upload.of(file, Path(get_upload_folder())) if rows == UPLOADED else None

    def look(self, rows: object, file: str | None, recipe: str, skip: bool, request: gr.Request) -> Iterator[str]:
        """The preview: first that it is being read."""
        if rows == UPLOADED and not file:
            yield f'<p class="fine">{NO_FILE_YET.html()}</p>'
            return
        try:
            self.allow(request)
            if rows != UPLOADED and recipe in self.known:
                yield self.known[recipe]
                return
            yield f'<p class="fine" role="status">{READING.html()}</p>'
            html = preview.draw(preview.look(self.shop.plan(recipe, STEPS[0], self.upload(rows, file), skip)))
            if rows != UPLOADED:
                self.known[recipe] = html
            yield html
        except Refused as err:
            yield problem(err.html)
        except Exception:
            yield problem(BROKEN.html())
            raise

    def shown(self, told: str = "") -> tuple:
        """Everything, drawn anew."""
        html = progress.draw(self.shop)
        job = self.shop.current()
        busy = job is not None and job.process() is not None
        return html, html, gr.Button(interactive=not busy), told

    def tick(self, before: str) -> tuple:
        """Everything, where it has changed since it was drawn last."""
        html, *others, _ = self.shown()
        return (gr.skip(),) * 4 if html == before else (html, *others, gr.skip())

    def start(self, rows: object, file: str | None, recipe: str, steps: float, skip: bool,
              request: gr.Request) -> tuple:
        def begin() -> None:
            self.shop.start(recipe, steps, self.upload(rows, file), skip)
        return self.do(begin, request)

    def stop(self, request: gr.Request) -> tuple:
        return self.do(self.shop.stop, request)

    def resume(self, request: gr.Request) -> tuple:
        return self.do(self.shop.resume, request)

    def do(self, what, request: gr.Request) -> tuple:
        """Do it if this request may, and say why if not."""
        try:
            self.allow(request)
            what()
            return self.shown()
        except Refused as err:
            return self.shown(problem(err.html))
        except OSError as err:
            return self.shown(problem(both(*[escape(str(err))] * 2)))


@dataclass(frozen=True)
class Form:
    """The controls that say what to train."""

    rows: gr.Radio
    file: gr.File
    recipe: gr.Radio
    steps: gr.Slider
    skip: gr.Checkbox
    start: gr.Button
    told: gr.HTML
    preview: gr.HTML


def form() -> Form:
    """Lay the controls out."""
    rows = gr.Radio([("自带的哈工大问答", SHIPPED), ("上传一份", UPLOADED)], value=SHIPPED, label="题目",
                    elem_id="training-rows")
    file = gr.File(label="问答文件（instruction、input、output）", file_types=list(ENDINGS), type="filepath",
                   height=130, visible=False, elem_id="training-file")
    skip = gr.Checkbox(False, label="跳过坏行", visible=False, container=False, elem_id="training-skip")
    recipe = gr.Radio([("lens：答完就停", RECIPES[0]), ("seed：最初的实验", RECIPES[1])], value=RECIPES[0],
                      label="做法", elem_id="training-recipe")
    steps = gr.Slider(5, MOST_STEPS, 100, step=1, label="步数", info="每步学 16 行（seed：1 行）",
                      elem_id="training-steps")
    start = gr.Button("开始训练", variant="primary", elem_id="training-start")
    told = section("", elem_id="training-told")
    return Form(rows, file, recipe, steps, skip, start, told, section("", elem_id="training-preview"))


def build(engine, shop: Workshop | None = None) -> None:
    """Lay the tab out inside the current Blocks. `shop`: the engine's trainings; None where they are not open."""
    top = section(heading("教它，看着它学会", "Teach it, and watch it learn",
                          "选题目，按开始；每个检查点一存好，就是“并排比较”里可选的一列。",
                          "Choose rows, press Start; every checkpoint can be a column under Compare once it is saved."),
                  js_on_load=read("shared/opened.js"))
    closed = Refused(OFF) if shop is None else shop.permission.closed
    if closed:
        section(f'<p class="empty">{closed.html}</p>', elem_id="training-closed")
        return
    with gr.Row(elem_id="training"):
        with gr.Column(scale=4, min_width=300):
            parts = form()
        with gr.Column(scale=7, min_width=300):
            view = section("", js_on_load=read("training/tab.js"), elem_id="training-view")
    wire(Training(shop), top, parts, view)


def wire(training: Training, top: gr.HTML, form: Form, view: gr.HTML) -> None:
    """Join the controls to the workshop. `top`: what is in view as soon as the tab is opened."""
    before, quiet = gr.State(""), {"api_visibility": "private", "show_progress": "hidden"}
    answers = {"outputs": [view, before, form.start, form.told], "queue": False, **quiet}
    asked = [form.rows, form.file, form.recipe, form.skip]
    look = {"fn": training.look, "inputs": asked, "outputs": form.preview, "trigger_mode": "always_last",
            "concurrency_limit": 1, "concurrency_id": "training-look", **quiet}
    form.rows.input(lambda rows: [gr.update(visible=rows == UPLOADED)] * 2, form.rows, [form.file, form.skip],
                    queue=False, **quiet)
    top.opened(**look)  # opened.js sends it when the tab is first seen
    gr.on([form.rows.input, form.file.upload, form.file.clear, form.recipe.input, form.skip.input], **look)
    top.opened(training.tick, before, **answers)
    gr.Timer(TICK).tick(training.tick, before, **answers)
    form.start.click(training.start, [form.rows, form.file, form.recipe, form.steps, form.skip], js=TYPED, **answers)
    view.stop(training.stop, None, **answers)
    view.resume(training.resume, None, **answers)
