"""axe-core on every tab of the real page, as it opens and with all that unfolds unfolded, light and dark: no fault of
any kind.

axe-core (Deque Systems) checks names, roles, contrast and the like; what only a person sees is not in it.
"""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe

from compare.page.frame.words import labels as labels_in_english
from compare.page.page import TABS
from tests.open_page import WAIT
from tools.take_screenshots import tab_of

pytest_plugins = ["tests.open_page"]

LABELS = ["并排比较", *TABS.values()]
# Nothing is written, and nothing is pale because Gradio waits for it.
SETTLED = "!document.querySelector('[data-state=writing], .html-container.pending')"
FOLDED = ("details:not([open]) > summary, button.label-wrap:not(.open), [data-action=differ][aria-pressed=false], "
          "[data-layer][aria-expanded=false]")
# Unfolds what is in sight and was not unfolded yet, and says how many those were. What is drawn anew counts again.
UNFOLD = """(folded) => [...document.querySelectorAll(folded)].filter((e) => e.checkVisibility() && !e.dataset.unfolded)
  .map((e) => { e.dataset.unfolded = "1"; e.click(); }).length"""
ROUNDS = 4  # of unfolding: a fold may hold another
SETTLING = 4 * WAIT  # some of what unfolds asks the model many times over


def faults(page) -> list[str]:
    """One line a fault and place: rule, what it is at, what axe says. Nothing of Gradio's own had to be left out."""
    found = Axe().run(page).response["violations"]
    return [f"{v['id']} ({v['impact']}) at {node['target']}: {node['failureSummary'].splitlines()[-1].strip()}"
            for v in found for node in v["nodes"]]


def unfold(page) -> int:
    """Open every fold in sight, those inside them too; how many."""
    opened = 0
    for _ in range(ROUNDS):
        now = page.evaluate(UNFOLD, FOLDED)
        opened += now
        page.wait_for_timeout(700)  # a fold may ask the server for what it shows
        if not now:
            break
    page.wait_for_function(SETTLED, timeout=SETTLING)
    return opened


@pytest.mark.parametrize("labels, locale, width", [
    pytest.param(LABELS[:2], "zh-CN", 1440, id="first-tabs"),
    pytest.param(LABELS[2:], "zh-CN", 1440, marks=pytest.mark.slow, id="other-tabs"),
    pytest.param(LABELS, "en-GB", 390, marks=pytest.mark.slow, id="english-phone")])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_fault_on_any_tab_as_it_opens_and_with_every_fold_open(visit, theme, labels, locale, width):
    page = visit(f"?__theme={theme}", locale, width)
    found = []
    for label in labels:
        tab_of(page, labels_in_english()[label] if locale == "en-GB" else label).click()
        page.wait_for_timeout(1500)  # a tab asks when it is opened
        page.wait_for_function(SETTLED, timeout=SETTLING)
        found += [f"{label}: {fault}" for fault in faults(page)]
        if unfold(page):
            found += [f"{label}, unfolded: {fault}" for fault in faults(page)]
    assert page.locator("#tabs ~ * button.label-wrap.open, #own button.label-wrap.open").count()
    assert not found, "\n".join(found)


def test_axe_sees_a_fault_that_is_there(visit):
    page = visit()
    assert not any(fault.startswith("button-name") for fault in faults(page))
    page.evaluate("document.body.append(document.createElement('button'))")
    assert any(fault.startswith("button-name") for fault in faults(page))
