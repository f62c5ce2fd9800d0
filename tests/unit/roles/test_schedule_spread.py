"""Over how many minutes role backup spreads the hosts of an inventory."""

from __future__ import annotations

from typing import Any

import pytest

FLEET = {"all": [f"web{number}" for number in range(40)]}


@pytest.mark.parametrize(
    ("groups", "variables", "minutes"),
    [
        (FLEET, {}, 30),
        ({"all": ["web1"]}, {}, 0),
        (FLEET, {"backup_schedule_spread": 0}, 0),
        (FLEET, {"backup_schedule_spread": "90"}, 90),
        ({"all": ["web1"]}, {"backup_schedule_spread": 10}, 10),
    ],
)
def test_the_spread_follows_from_the_inventory_unless_it_is_given(
    derived: Any, groups: dict[str, list[str]], variables: dict[str, Any], minutes: int
) -> None:
    # A play on one of them, as with --limit, changes nothing.
    assert int(derived("__backup_spread", groups=groups, ansible_play_hosts=["web1"], **variables)) == minutes
