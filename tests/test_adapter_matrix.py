"""The matrix of loaded adapters on the What changed tab: figures as they are, names only as text, none for one."""

from __future__ import annotations

import re

import pytest
from one_tab import StandInEngine, loaded, opened
from playwright.sync_api import expect
from test_changed import SHIFT, sites

from compare.page.changed import tab as changed
from compare.page.changed.adapter_matrix import MOST, draw_matrix
from lens.errors import BadAdapter

ATTACK = "<img src=x onerror=\"document.title='owned'\">"


def related(*names: str, cosines: dict | None = None) -> dict:
    """What an engine says of these adapters; `cosines` by pair, 0.0 for all others."""
    pairs = [(one, other) for i, one in enumerate(names) for other in names[i + 1:]]
    return {"adapters": [{"name": name, "norm": 12.345, "effective_rank": 3.21} for name in names],
            "pairs": [{"one": one, "other": other, "cosine": (cosines or {}).get((one, other), 0.0),
                       "sentence": {"en": f"of {one} and {other}", "zh": f"{one} 与 {other}"}} for one, other in pairs],
            "notes": [{"message": "of two bases", "message_zh": "两个底座"}]}


def test_each_pair_stands_twice_and_the_most_alike_is_open():
    cosines = {("a", "b"): 0.914, ("a", ATTACK): -0.5, ("b", ATTACK): None}
    drawn = draw_matrix(related("a", "b", ATTACK, cosines=cosines))
    cells = dict(re.findall(r'data-part="(\d-\d)"[^>]*>([^<]+)<', drawn))
    assert cells == {"0-1": "0.91", "0-2": "−0.50", "1-2": "–"} and drawn.count("data-part=") == 6
    assert drawn.count('class="none">1<') == 3 and drawn.count("data-minus") == 2 and "<img" not in drawn
    assert re.findall(r'data-about="(\d-\d)">', drawn) == ["0-1"] and drawn.count(" hidden") == 2
    assert "12.3" in drawn and "3.2" in drawn and "of two bases" in drawn and "not shown" not in drawn


class Several(StandInEngine):
    def adapter_norms(self, name):
        return sites()

    def adapter_pairs(self, names):
        if "broken" in self.adapters:
            raise BadAdapter("adapter-not-on-model", adapter="broken")
        return related(*names, cosines={("lens", ATTACK): 0.7})


def test_of_very_many_the_first_are_compared_and_the_rest_are_told():
    changes = changed.Changes(Several(*(loaded(f"step-{n}") for n in range(MOST + 3))))
    assert changes.related().count('scope="row"') == MOST
    assert "3 more loaded adapters are not shown" in changes.related()


def test_one_adapter_has_none_and_a_fault_leaves_the_rest():
    alone, several = changed.Changes(Several(loaded("lens"))), changed.Changes(Several(loaded("lens"), loaded("b")))
    assert "Do the adapters do the same?" not in alone.where("lens") and "Receipt" in alone.where("lens")
    assert "Do the adapters do the same?" in several.where("lens") and several.matrices
    broken = changed.Changes(Several(loaded("lens"), loaded("broken")))
    assert "Receipt" in broken.where("lens") and "broken" in broken.where("lens") and not broken.matrices


@pytest.fixture(scope="module")
def page(browser):
    engine = Several(loaded("lens"), loaded("b"), loaded(ATTACK))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(changed.Shift, "of", lambda engine, columns: SHIFT)
        with opened(browser, lambda: changed.build(engine), "#changed-where [data-part]") as page:
            yield page


def test_a_pair_says_whether_it_does_the_same(page):
    about = page.locator("#changed-where [data-about]:visible")
    expect(about).to_contain_text(f"lens 与 {ATTACK}")
    page.locator("#changed-where [data-part='0-1']").first.hover()
    expect(about).to_contain_text("lens 与 b")
    page.locator("#changed-where [data-part='0-1']").first.focus()
    page.keyboard.press("ArrowRight")
    expect(about).to_contain_text(f"lens 与 {ATTACK}")
    assert page.title() == "tab" and page.evaluate("document.documentElement.scrollWidth") == 390
