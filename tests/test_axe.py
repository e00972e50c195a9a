"""axe-core on every tab of the real page, light and dark: nothing that it calls serious or critical.

axe-core (Deque Systems) checks names, roles, contrast and the like; what only a person sees is not in it.
"""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe

from compare.page.page import TABS
from tests.open_page import WAIT

pytest_plugins = ["tests.open_page"]

LABELS = ["并排比较", *TABS.values()]
SETTLED = "!document.querySelector('[data-state=writing]')"


def faults(page) -> list[str]:
    """One line a fault and place: rule, what it is at, what axe says."""
    found = Axe().run(page).response["violations"]
    return [f"{v['id']} ({v['impact']}) at {node['target']}: {node['failureSummary'].splitlines()[-1].strip()}"
            for v in found if v["impact"] in ("serious", "critical") for node in v["nodes"]]


@pytest.mark.parametrize("theme, labels", [("light", LABELS), ("dark", LABELS[:2]),
                                           pytest.param("dark", LABELS[2:], marks=pytest.mark.slow)],
                         ids=["light", "dark", "dark-other-tabs"])
def test_no_serious_fault_on_any_tab(visit, theme, labels):
    page = visit(f"?__theme={theme}")
    found = []
    for label in labels:
        page.get_by_role("tab", name=label, exact=True).click()
        page.wait_for_timeout(1500)  # a tab asks when it is opened
        page.wait_for_function(SETTLED, timeout=WAIT)
        found += [f"{label}: {fault}" for fault in faults(page)]
    assert not found, "\n".join(found)


def test_axe_sees_a_fault_that_is_there(visit):
    page = visit()
    assert not any(fault.startswith("button-name") for fault in faults(page))
    page.evaluate("document.body.append(document.createElement('button'))")
    assert any(fault.startswith("button-name") for fault in faults(page))
