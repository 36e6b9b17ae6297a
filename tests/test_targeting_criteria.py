"""Whom the built-in targeting chooses must be said."""

from __future__ import annotations

from typing import Any

import pytest

from campaign.targeting.criteria import TargetingParameterError, parse_criteria

NOTHING = 'everybody: nothing says whom to target. Give purchases, where or lists, or write "everybody": true.'


@pytest.mark.parametrize(
    ("conf", "message"),
    [
        ({}, NOTHING),
        ({"where": [], "lists": None, "purchases": {}}, NOTHING),
        ({"everybody": False}, NOTHING),
        ({"purchases": {"min_count": None, "last_before": None}}, NOTHING),
        ({"exclude_lists": ["staff"], "control_group": {"share": 0.1}}, NOTHING),
        ({"everybody": "yes"}, "everybody: 'yes' must be true or false."),
        ({"everybody": True, "lists": ["vip"]}, "everybody: is true, and lists chooses some: keep one of them."),
    ],
)
def test_everybody_is_targeted_only_when_that_is_said(conf: dict[str, Any], message: str) -> None:
    with pytest.raises(TargetingParameterError) as refused:
        parse_criteria(conf)
    assert str(refused.value) == message


def test_everybody_may_be_said_and_some_left_out() -> None:
    criteria = parse_criteria({"everybody": True, "exclude_lists": ["staff"]})
    assert (criteria.conditions, criteria.lists, criteria.exclude_lists) == ([], [], ["staff"])
