"""Costs and stock of a month run on time, and run once at its end and back-filled in random order: no difference."""

from __future__ import annotations

from functools import partial

from tests.trust.any_order import CALCULATING, assert_same, play
from tests.trust.conftest import OpenHouse
from tests.trust.month import Month
from tests.trust.tally import size


def test_costs_and_stock_of_a_month_in_any_order_come_to_the_same(open_house: OpenHouse) -> None:
    days = size(short=3, long=14)
    on_time, late = play(open_house, partial(Month, is_dated=True), days, (), CALCULATING)
    assert len(on_time.rows["budget_history"]) > days
    assert len(on_time.rows["stock_history"]) > days
    assert_same(on_time, late)
