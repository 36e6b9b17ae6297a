"""A month whose workflows act on time, and at its end: it ends the same, and what is calculated of it too."""

from __future__ import annotations

import pytest

from tests.trust.any_order import ACTING, END, Played, assert_same, play
from tests.trust.conftest import OpenHouse
from tests.trust.month import Script
from tests.trust.player import WORKFLOWS
from tests.trust.tally import count, size


@pytest.fixture(scope="module")
def scripted(open_house: OpenHouse) -> list[Played]:
    """Play a script on time, with those late that act, and with all late."""
    return play(open_house, Script, size(short=2, long=14), (), ACTING, WORKFLOWS)


def test_days_of_a_house_that_acted_late_come_to_the_same(scripted: list[Played]) -> None:
    _, acted_late, all_late = scripted
    assert len(all_late.rows["budget_history"]) > 2
    assert_same(acted_late, all_late)


def test_month_ends_the_same_if_all_is_done_at_its_end(scripted: list[Played]) -> None:
    on_time, _, all_late = scripted
    different = {
        name: (on_time.end[name], all_late.end[name]) for name in END if on_time.end[name] != all_late.end[name]
    }
    count(differences=len(different))
    assert different == {}
    assert min(map(len, on_time.end.values())) > 0
    assert on_time.alerts == all_late.alerts
