"""The Train tab: rows and settings, what they would teach, and the training under way, which outlives the page.

Every request that changes something is checked by the trainings' permission, and a file is taken only from where
Gradio stored the visitor's upload.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import gradio as gr
from gradio.utils import get_upload_folder
from markupsafe import Markup

from compare.engine.interface import Engine
from compare.page.shared.templates import draw, read, tab_piece
from compare.page.shared.updates import updates
from compare.page.training.panel import controls, values_of
from compare.page.training.preview import draw_preview, look
from compare.page.training.progress import draw_progress
from compare.server.trainings.declared import OFFERED, changed, defaults
from compare.server.trainings.trainings import ENDINGS, RECIPES, STEPS, Trainings, Upload
from lens.adapter.fit import LINEAR_LAYERS
from lens.errors import LensError, Unavailable, first_line

TICK = 1.5  # seconds between two looks of a page
MOST_STEPS = 2000  # of the slider
SHIPPED, UPLOADED = "shipped", "upload"
# The steps as they stand in the field: Gradio hears of a number that was typed a moment later than of the press.
TYPED = """(rows, file, recipe, steps, skip, ...more) => [rows, file, recipe,
  Number(document.querySelector('#training-steps input[type=number]')?.value ?? steps), skip, ...more]"""


def named(values: Sequence[object]) -> dict[str, object]:
    """The panel's values by the settings' names."""
    return dict(zip(OFFERED, values, strict=False))


def draw_error(error: LensError) -> Markup:
    return draw("training/progress", "problem", error=error)


@dataclass(frozen=True)
class TrainingTab:
    """What the tab's controls do. Each answers with (view, what is shown now, Start, notice)."""

    trainings: Trainings
    known: dict[str, str] = field(default_factory=dict)  # plan → its preview

    def allow(self, request: gr.Request) -> None:
        """Raises Unavailable unless this request may change something."""
        self.trainings.permission.check(dict(request.headers))

    def upload(self, rows: object, file: str | None) -> Upload | None:
        return Upload.of(file, Path(get_upload_folder())) if rows == UPLOADED else None

    def look(self, rows: object, file: str | None, recipe: str, skip: bool, steps: float, request: gr.Request,
             *values: object) -> Iterator[str]:
        """The preview: first that it is being read. `values`: the panel's, in `OFFERED`'s order."""
        yield from updates(lambda run: self.preview(rows, file, recipe, skip, steps, request, values), draw_error)

    def preview(self, rows: object, file: str | None, recipe: str, skip: bool, steps: float, request: gr.Request,
                values: Sequence[object] = ()) -> Iterator[str]:
        if rows == UPLOADED and not file:
            yield draw("training/preview", "no_file")
            return
        self.allow(request)
        plan = self.trainings.plan(recipe, steps or STEPS[0], self.upload(rows, file), skip, named(values))
        if not plan.file and repr(plan) in self.known:
            yield self.known[repr(plan)]
            return
        yield draw("training/preview", "waiting")
        html = draw_preview(look(plan), plan.told())
        if not plan.file:
            self.known[repr(plan)] = html
        yield html

    def shown(self, notice: str = "") -> tuple:
        """Everything, drawn anew."""
        html = draw_progress(self.trainings)
        job = self.trainings.current()
        busy = job is not None and job.process() is not None
        return html, html, gr.Button(interactive=not busy), notice

    def tick(self, before: str) -> tuple:
        """Everything, where it has changed since it was drawn last."""
        html, *others, _ = self.shown()
        return (gr.skip(),) * 4 if html == before else (html, *others, gr.skip())

    def start(self, rows: object, file: str | None, recipe: str, steps: float, skip: bool, request: gr.Request,
              *values: object) -> tuple:
        def begin() -> None:
            given, upload = named(values), self.upload(rows, file)
            self.trainings.start(recipe, self.steps(recipe, steps, upload, skip, given), upload, skip, given)
        return self.do(begin, request)

    def steps(self, recipe: str, steps: float, upload: Upload | None, skip: bool, given: dict[str, object]) -> object:
        """As many as were asked for, or as the epochs take."""
        epochs = changed(recipe, given).get("epochs", 0)
        if not epochs:
            return steps
        rows = look(self.trainings.plan(recipe, STEPS[0], upload, skip, given)).rows
        return max(1, math.ceil(epochs * rows / {**defaults(recipe), **changed(recipe, given)}["batch"]))

    def stop(self, request: gr.Request) -> tuple:
        return self.do(self.trainings.stop, request)

    def resume(self, steps: float, request: gr.Request) -> tuple:
        return self.do(lambda: self.trainings.resume(int(steps)), request)

    def delete(self, request: gr.Request) -> tuple:
        return self.do(self.trainings.delete, request)

    def pack(self, request: gr.Request) -> tuple:
        """The newest adapter as a file to take away, and why there is none."""
        try:
            self.allow(request)
            return gr.File(str(self.trainings.pack(Path(tempfile.mkdtemp()))), visible=True), ""
        except LensError as err:
            return gr.skip(), draw_error(err)

    def do(self, what: Callable[[], object], request: gr.Request) -> tuple:
        """Do it if this request may, and say why if not."""
        try:
            self.allow(request)
            what()
            return self.shown()
        except LensError as err:
            return self.shown(draw_error(err))
        except OSError as err:
            return self.shown(draw_error(Unavailable("training-not-written", reason=first_line(err))))


@dataclass(frozen=True)
class Form:
    """The controls that say what to train."""

    rows: gr.Radio
    file: gr.File
    recipe: gr.Radio
    steps: gr.Slider
    skip: gr.Checkbox
    start: gr.Button
    notice: gr.HTML
    preview: gr.HTML
    panel: list


def form(adapters: list[str], layers: list[str], bloom: bool = True) -> Form:
    """Lay the controls out. `adapters`: those loaded, from whose weights a training may start; `layers`: the base's
    linear layers; `bloom`: is it one?"""
    shipped = "自带的哈工大问答" if bloom else "自带的哈工大问答（中文）"
    rows = gr.Radio([(shipped, SHIPPED), ("上传一份", UPLOADED)], value=SHIPPED, label="题目",
                    elem_id="training-rows")
    file = gr.File(label="问答文件（instruction、input、output）", file_types=list(ENDINGS), type="filepath",
                   height=130, visible=False, elem_id="training-file")
    skip = gr.Checkbox(False, label="跳过坏行", visible=False, container=False, elem_id="training-skip")
    recipe = gr.Radio([("lens：答完就停", RECIPES[0]), ("seed：最初的实验", RECIPES[1])], value=RECIPES[0],
                      label="做法", elem_id="training-recipe")
    steps = gr.Slider(5, MOST_STEPS, 100, step=1, label="步数", info="每步学 16 行（seed：1 行）",
                      elem_id="training-steps")
    with gr.Accordion("更多设置", open=False, elem_id="training-panel"):
        panel = controls(RECIPES[0], adapters, layers)
    start = gr.Button("开始训练", variant="primary", elem_id="training-start")
    notice = tab_piece("training", elem_id="training-told")
    preview = tab_piece("training", elem_id="training-preview")
    return Form(rows, file, recipe, steps, skip, start, notice, preview, panel)


def build(engine: Engine, trainings: Trainings | None = None) -> None:
    """Lay the tab out inside the current Blocks. `trainings`: the engine's; None where they are not open."""
    top = tab_piece("training", draw("training/progress", "heading"), js_on_load=read("shared/opened.js"))
    closed = trainings.permission.closed if trainings else Unavailable("training-off")
    if closed or not trainings:
        tab_piece("training", draw("training/progress", "closed", error=closed), elem_id="training-closed")
        return
    layers = list(trainings.engine.facts.linears or LINEAR_LAYERS)
    with gr.Row(elem_id="training"):
        with gr.Column(scale=4, min_width=300):
            parts = form(list(trainings.engine.adapters), layers, engine.facts.family == "bloom")
        with gr.Column(scale=7, min_width=300):
            view = tab_piece("training", js_on_load=read("training/tab.js"), elem_id="training-view")
            packed = gr.File(label="下载", visible=False, interactive=False, elem_id="training-zip")
    wire(TrainingTab(trainings), top, parts, view, packed, layers)


def wire(tab: TrainingTab, top: gr.HTML, form: Form, view: gr.HTML, packed: gr.File, layers: list[str]) -> None:
    """Join the controls to the trainings. `top`: what is in view as soon as the tab is opened."""
    before, quiet = gr.State(""), {"api_visibility": "private", "show_progress": "hidden"}
    answers = {"outputs": [view, before, form.start, form.notice], "queue": False, **quiet}
    asked = [form.rows, form.file, form.recipe, form.skip, form.steps, *form.panel]
    preview = {"fn": tab.look, "inputs": asked, "outputs": form.preview, "trigger_mode": "always_last",
               "concurrency_limit": 1, "concurrency_id": "training-look", **quiet}
    form.rows.input(lambda rows: [gr.update(visible=rows == UPLOADED)] * 2, form.rows, [form.file, form.skip],
                    queue=False, **quiet)
    top.opened(**preview)  # opened.js sends it when the tab is first seen
    form.recipe.input(lambda recipe: values_of(recipe, layers), form.recipe, form.panel, queue=False,
                      **quiet).then(**preview)
    gr.on([form.rows.input, form.file.upload, form.file.clear, form.skip.input, form.steps.release,
           *(control.input for control in form.panel)], **preview)
    top.opened(tab.tick, before, **answers)
    gr.Timer(TICK).tick(tab.tick, before, **answers)
    form.start.click(tab.start, [form.rows, form.file, form.recipe, form.steps, form.skip, *form.panel], js=TYPED,
                     **answers)
    view.stop(tab.stop, None, **answers)
    view.resume(tab.resume, form.steps, **answers)
    view.remove(tab.delete, None, **answers)
    view.pack(tab.pack, None, [packed, form.notice], queue=False, **quiet)
