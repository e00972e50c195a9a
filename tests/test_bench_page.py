"""What the page's bench reckons from what the browser and the engine say."""

from __future__ import annotations

import pytest

from bench.page.moving import delays
from bench.page.opening import usable_from


@pytest.mark.parametrize("tasks, expected", [
    ([], 800), ([(100, 400)], 800), ([(100, 900), (1000, 1300)], 1300),
    ([(900, 1000), (7000, 7200)], 1000),  # five seconds of quiet lie between
    ([(900, 1000), (5900, 6000)], 6000)])
def test_a_page_can_be_used_after_its_last_long_task_before_five_seconds_of_quiet(tasks, expected):
    assert usable_from(800.0, tasks) == expected


def test_a_token_is_on_the_screen_when_the_first_picture_has_all_of_it():
    made = [(10.00, 1), (10.01, 2), (10.02, 2), (10.03, 3), (10.04, 4)]  # the third is half a character
    painted = [(10.02, 2), (10.05, 3)]
    assert delays(made, painted) == pytest.approx([20, 10, 20])  # the last was never painted as it grew
    before = [(9.99, 40), (10.01, 40)]  # the last answer, which goes as this one comes
    assert delays(made, [*before, *painted]) == pytest.approx([20, 10, 20])
