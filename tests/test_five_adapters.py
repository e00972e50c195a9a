"""docs/five_adapters.md can be walked: its files are written, its commands run, its steps taken in a browser."""

from __future__ import annotations

import csv
import importlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from bench.shared.served import served
from tests.open_page import WAIT
from tests.test_page import ask
from tests.test_page_columns import add, change, drawn, editor, rows
from tests.test_walk import ROOT, walk

DOCUMENT = "five_adapters.md"
FEW = {"60": "3", "10": "2", "16": "4"}  # steps and tokens; the first step learns nothing yet
PASSWORD, CLUB, CHOIR = "社团的暗号是什么？", "蓝色的雨伞。", "红色的灯笼。"
STEPS: dict[str, Callable[[Walker], None]] = {}


@dataclass
class Walker:
    """Who takes the steps: the page, the folder in which the commands ran, and whether the adapters learnt the rows."""

    page: Page
    folder: Path
    learnt: bool

    def heads(self) -> list[str]:
        return self.page.locator(".lens-col h2").all_inner_texts()

    def answer(self, name: str) -> str | None:
        return self.page.locator(f".lens-col[data-name='{name}'] .lens-answer").get_attribute("data-text")


def step(beginning: str):
    """The step of the document that begins so."""
    def take(do):
        STEPS[beginning] = do
        return do
    return take


@step("Open the address")
def _(walker: Walker) -> None:
    drawn(walker.page, 4)
    assert walker.heads() == ["Base", "club", "choir", "early"]


@step("Type `社团的暗号是什么？`")
def _(walker: Walker) -> None:
    ask(walker.page, PASSWORD)
    expect(walker.page.locator("[data-action=pin]")).to_have_attribute("data-value", PASSWORD, timeout=WAIT)
    drawn(walker.page, 4)
    if walker.learnt:
        assert (walker.answer("club"), walker.answer("choir")) == (CLUB, CHOIR) and walker.answer("base") != CLUB


@step("Open **Use your own model**")
def _(walker: Walker) -> None:
    page = walker.page
    page.locator("#own > button").click()
    page.locator("#load-folder input").click()
    page.get_by_role("option", name="runs/mlp", exact=True).click()
    page.get_by_role("button", name="Load this folder").click()
    expect(page.locator("[data-adapter=mlp]")).to_contain_text("all checks passed", timeout=WAIT)


@step("Drop `rank1.zip`")
def _(walker: Walker) -> None:
    page = walker.page
    page.locator("#load-files input[type=file]").set_input_files(walker.folder / "rank1.zip")
    expect(page.locator("#load-files")).to_contain_text("rank1", timeout=WAIT)
    page.get_by_role("button", name="Load the upload").click()
    expect(page.locator("[data-adapter=rank1]")).to_contain_text("all checks passed", timeout=WAIT)


@step("Press **Add it as a column**")
def _(walker: Walker) -> None:
    walker.page.locator("[data-adapter=mlp]").get_by_role("link").click()
    expect(walker.page.locator(".lens-col[data-name=mlp]")).to_be_visible(timeout=WAIT)
    expect(walker.page.locator("#question textarea")).to_have_value(PASSWORD)
    drawn(walker.page, 5)


@step("Open **Columns")
def _(walker: Walker) -> None:
    editor(walker.page)
    add(walker.page)
    walker.page.locator("#columns ol > li").last.locator("[data-key=adapter]").select_option("rank1")
    change(walker.page, 4, "strength", "1")
    expect(walker.page.locator(".lens-col[data-name=rank1]")).to_be_visible(timeout=WAIT)
    drawn(walker.page, 6)
    assert walker.heads() == ["Base", "club", "choir", "early", "mlp", "rank1"]
    if walker.learnt:
        assert walker.answer("mlp") == walker.answer("rank1") == CLUB


@step("Call the last one")
def _(walker: Walker) -> None:
    change(walker.page, 4, "name", "rank one")
    moved = walker.page.locator("#columns ol > li").nth(4).locator("[data-do=up]")
    moved.focus()
    for _ in range(4):
        walker.page.keyboard.press("Enter")  # the button goes along
    assert [row[1] for row in rows(walker.page)] == ["rank1", "club", "choir", "early", "mlp"]
    expect(walker.page.locator(".lens-col").nth(1).locator("h2")).to_have_text("rank one", timeout=WAIT)
    drawn(walker.page, 6)
    expect(walker.page.locator("[data-action=link]")).to_be_visible(timeout=WAIT)


@step("Press **What differs**")
def _(walker: Walker) -> None:
    walker.page.locator("[data-action=differ]").click()
    for side, name in enumerate(("club", "choir")):
        walker.page.locator(f"[data-pick='{side}']").select_option(f"now {name}")
    expect(walker.page.locator(".lens-agreement")).to_be_visible(timeout=WAIT)
    if walker.learnt:
        expect(walker.page.locator("[data-side=one] .lens-parts")).to_have_text("蓝", timeout=WAIT)
        expect(walker.page.locator("[data-side=other] .lens-parts")).to_have_text("红")


@step("Press **CSV**")
def _(walker: Walker) -> None:
    with walker.page.expect_download() as saved:
        walker.page.get_by_role("button", name="CSV").click()
    with open(saved.value.path(), encoding="utf-8-sig", newline="") as file:
        found = list(csv.DictReader(file))
    assert [line["variant"] for line in found] == ["base", "rank one", "club", "choir", "early", "mlp"]


@step("Press **Copy link**")
def _(walker: Walker) -> None:
    walker.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    walker.page.locator("[data-action=link]").click()
    expect(walker.page.locator("[data-action=link]")).to_have_attribute("data-said", "Copied")
    other = walker.page.context.new_page()
    other.goto(walker.page.evaluate("navigator.clipboard.readText()"))
    expect(other.locator(".lens-col").nth(1).locator("h2")).to_have_text("rank one", timeout=WAIT)
    drawn(other, 6)
    assert Walker(other, walker.folder, walker.learnt).heads() == walker.heads()
    other.close()


@step("Remove the column of `mlp`")
def _(walker: Walker) -> None:
    page = walker.page
    page.locator("#columns ol > li").nth(4).locator("[data-do=remove]").click()
    expect(page.locator(".lens-col")).to_have_count(5, timeout=WAIT)
    drawn(page, 5)
    page.locator("#own > button").click()
    page.locator("[data-unload=mlp]").click()
    expect(page.locator("[data-adapter=mlp]")).to_have_count(0, timeout=WAIT)
    page.locator("#columns-fold > button").click()
    page.locator("#columns-fold > button").click()  # the list asks again what is loaded
    add(page)
    offered = page.locator("#columns ol > li").last.locator("[data-key=adapter] option").all_inner_texts()
    assert "rank1" in offered and "mlp" not in offered


def test_every_step_on_the_page_is_taken():
    text = (ROOT / "docs" / DOCUMENT).read_text(encoding="utf-8")
    steps = re.findall(r"^\d+\. (.+)$", text, re.MULTILINE)
    assert len(steps) == len(STEPS) and all(s.startswith(known) for s, known in zip(steps, STEPS, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("learnt", [False, True], ids=["few steps", "whole"])
def test_five_adapters_from_the_rows_to_the_page(learnt, tmp_path, monkeypatch, capsys, browser):
    monkeypatch.chdir(tmp_path)
    *commands, (app, options, _) = walk(tmp_path, DOCUMENT)
    for module, given, below in commands:
        main = importlib.import_module(f"{module}.__main__" if module in ("train", "compare") else module).main
        assert not main(given if learnt else [FEW.get(option, option) for option in given])
        said = "".join(capsys.readouterr())
        assert not [line for line in below if line not in said and (learnt or '"text"' not in line)], said
    assert app == "app.py"
    env = {**os.environ, "GRADIO_ANALYTICS_ENABLED": "False", "LENS_TRAININGS": str(tmp_path / "trainings")}
    with served(env, *options, folder=tmp_path) as page:
        context = browser.new_context(viewport={"width": 1440, "height": 900}, locale="en-GB")
        walker = Walker(context.new_page(), tmp_path, learnt)
        walker.page.goto(page.url)
        for do in STEPS.values():
            do(walker)
        context.close()
