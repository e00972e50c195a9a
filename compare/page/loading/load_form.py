"""The fold "Use your own model": how the program is started with one, and adapters loaded while the page is open.

Every request that changes something is checked by the loading's permission. Who loaded an adapter is known by a secret
that the browser keeps, so that a page that is opened again, or another of its tabs, can take it off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import gradio as gr
from gradio.utils import get_upload_folder
from markupsafe import Markup

from compare.page.shared.column_list import AskedColumn, shown_columns
from compare.page.shared.examples import first_question
from compare.page.shared.model_sizes import EMBEDDED, Shape
from compare.page.shared.request import ComparisonRequest
from compare.page.shared.templates import draw, piece, read
from compare.page.shared.updates import updates
from compare.server.loading.adapter_upload import ALONE
from compare.server.loading.page_adapters import Held, Loading, Place, remove
from compare.server.request_filter import MEGABYTE
from lens.embedded import SHIPPED_ADAPTERS
from lens.errors import LensError

FILES = [".zip", *sorted({Path(name).suffix for name in ALONE})]


def draw_error(error: LensError) -> Markup:
    return draw("loading/load_form", "problem", error=error)


def draw_held(held: Held, first: tuple[str, str], shown: tuple[AskedColumn, ...] = ()) -> Markup:
    """An adapter with its receipt, the link that adds it to the columns `shown` of the page's `first` question, and, if
    it is this visitor's, the sign to take it off."""
    name = held.adapter.name
    column = AskedColumn(name)
    link = ComparisonRequest(*first, columns=(*shown, column)).link(first[1]) or "?"
    return draw("loading/load_form", "held", adapter=name, files=held.adapter.files, called=held.place.called,
                receipt=held.adapter.receipt.as_dict(), notes=held.notes, link=link, column=column.link(),
                removable=bool(held.owner))


@dataclass(frozen=True)
class LoadForm:
    """What the fold's controls do. Each answers with (what happened, this visitor's adapters). `owner`: the browser's
    secret."""

    loading: Loading

    def mine(self, owner: str) -> Markup:
        engine = self.loading.engine
        first, shown = first_question(engine), shown_columns(engine)
        return Markup("").join(draw_held(held, first, shown) for held in self.loading.of(owner))

    def load(self, find: Callable[[], Place], owner: str, request: gr.Request) -> Iterator[tuple]:
        """Find, then load, told as it goes on."""
        def steps(_: object) -> Iterator[Markup]:
            self.loading.permission.check(dict(request.headers))
            yield draw("loading/load_form", "step", step="finding", called="")
            place = find()
            try:
                yield draw("loading/load_form", "step", step="proving", called=place.called)
            except GeneratorExit:  # the visitor has left
                remove(place)
                raise
            held = self.loading.load(place, owner)
            yield draw("loading/load_form", "loaded", adapter=held.adapter.name, notes=held.notes,
                       owned=bool(held.owner))

        for told in updates(steps, draw_error):
            yield told, self.mine(owner)

    def from_folder(self, given: object, owner: str, request: gr.Request) -> Iterator[tuple]:
        yield from self.load(lambda: self.loading.folder(given), owner, request)

    def from_upload(self, files: list[str] | None, owner: str, request: gr.Request) -> Iterator[tuple]:
        for update in self.load(lambda: self.loading.upload(files, Path(get_upload_folder())), owner, request):
            yield *update, gr.File(None)

    def from_hub(self, given: object, owner: str, request: gr.Request) -> Iterator[tuple]:
        yield from self.load(lambda: self.loading.hub(given), owner, request)

    def unload(self, owner: str, event: gr.EventData, request: gr.Request) -> tuple:
        def once(_: object) -> Iterator[Markup]:
            self.loading.permission.check(dict(request.headers))
            name = self.loading.unload(event.name, owner)
            yield draw("loading/load_form", "unloaded", adapter=name)

        [told] = updates(once, draw_error)
        return told, self.mine(owner)

    def opened(self, owner: str) -> tuple:
        """What is there by now."""
        return gr.Dropdown(self.loading.offered()), self.mine(owner)


def build(loading: Loading | None, bloom: bool = True) -> None:
    """Lay the fold out inside the current Blocks. `loading`: the engine's; None where nothing can be loaded; `bloom`:
    is the base one?"""
    with gr.Accordion("换成你自己的模型", open=False, elem_id="own") as fold:
        piece(draw("page", "your_own_model", bloom=bloom))
        if loading is None or loading.closed:
            if loading:
                piece(draw_error(loading.closed), elem_id="load-closed", css_template=read("loading/load_form.css"))
            return
        lay_out(LoadForm(loading), fold)


def lessons(roots: Sequence[Path]) -> list[Path]:
    """The adapters that ship with the project, where they may be loaded."""
    return [path for root in roots if root.resolve() == SHIPPED_ADAPTERS for path in sorted(root.iterdir())]


def lay_out(form: LoadForm, fold: gr.Accordion) -> None:
    own_style = {"css_template": read("loading/load_form.css")}
    embedded = Shape.of(form.loading.engine.facts) == EMBEDDED
    piece(draw("loading/load_form", "heading", most=f"{form.loading.largest / MEGABYTE:g}", roots=form.loading.roots,
               lessons=lessons(form.loading.roots) if embedded else []), **own_style)
    with gr.Row(elem_id="load"):
        with gr.Column(min_width=260):
            folder = gr.Dropdown([], label="文件夹", allow_custom_value=True, elem_id="load-folder",
                                 info="在允许的目录之内")
            by_folder = gr.Button("载入这个文件夹", elem_id="load-by-folder")
        with gr.Column(min_width=260):
            files = gr.File(label="zip，或两个文件一起", file_count="multiple", file_types=FILES, type="filepath",
                            height=160, elem_id="load-files")
            by_upload = gr.Button("载入上传的文件", elem_id="load-by-upload")
        with gr.Column(min_width=260):
            hub = gr.Textbox(label="hub 上的名字", placeholder="OWNER/NAME", max_lines=1, elem_id="load-hub",
                             info="要能连上 Hugging Face")
            by_hub = gr.Button("从 hub 载入", elem_id="load-by-hub")
    told = piece(elem_id="load-told", **own_style)
    mine = piece(elem_id="load-mine", js_on_load=read("loading/load_form.js"), **own_style)
    owner, secret = piece(visible=False), read("loading/owner.js")  # filled by the browser as it asks
    with_owner, owner_alone = f"(given) => [given, ({secret})()]", f"() => [({secret})()]"
    quiet = {"api_visibility": "private", "show_progress": "hidden"}
    loads = {"concurrency_limit": 1, "concurrency_id": "loading", **quiet}
    by_folder.click(form.from_folder, [folder, owner], [told, mine], js=with_owner, **loads)
    by_upload.click(form.from_upload, [files, owner], [told, mine, files], js=with_owner, **loads)
    by_hub.click(form.from_hub, [hub, owner], [told, mine], js=with_owner, **loads)
    # not "unload": Gradio fires that of every component as a page is left
    mine.take_off(form.unload, owner, [told, mine], js=owner_alone, **loads)
    fold.expand(form.opened, owner, [folder, mine], js=owner_alone, queue=False, **quiet)
