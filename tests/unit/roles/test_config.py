"""What role backup writes for the agent, with whichever line of ansible-core."""

from __future__ import annotations

from typing import Any

from ansible_collections.scalr.backup.plugins.plugin_utils import _agent_files as agent_files

NUMBERS = {
    "check_weeks": 8,
    "drill_overdue_days": 40,
    "spread_minutes": 0,
    "shrink_percent": 50,
    "dump_size_factor": 16,
    "nearly_full_percent": 90,
    "pass_hours": 12,
    "lock_hours": 24,
    "parallel": 3,
    "metrics_port": 0,
}
HOST = {"groups": {"all": ["web1"]}}


def test_numbers_are_numbers_and_nothing_is_nothing(derived: Any) -> None:
    # On the command line, a number is text.
    found = derived("__backup_config", **HOST, backup_parallel="3")

    assert {name: found[name] for name in NUMBERS} == NUMBERS
    assert {type(found[name]) for name in NUMBERS} == {int}
    assert (found["row_counts"], found["append_only"], found["copy"]) == (True, False, None)


def test_text_that_looks_like_a_number_stays_text(derived: Any) -> None:
    found = derived("__backup_config", host="7", **HOST, backup_keep_within="", backup_copy_repository="/copy")

    assert found["host"] == "7"
    assert found["keep_within"] == ""
    assert found["copy"]["repository"] == "/copy"


def test_every_number_of_the_settings_is_turned_into_one(derived: Any) -> None:
    settings = derived("__backup_settings", **HOST)

    written = {name for name, value in settings.items() if str(value).isdigit()}
    assert written == set(agent_files.NUMBERS)


def test_row_order_is_off_however_yaml_reads_it(derived: Any) -> None:
    said = {
        value: derived("__backup_config", **HOST, backup_row_order=value)["row_order"]
        for value in (False, "off", "auto")
    }

    assert said == {False: "off", "off": "off", "auto": "auto"}


def test_tables_that_stay_as_they_are_may_be_a_list_or_a_line(derived: Any) -> None:
    for said in (["public.events", "audit.*"], "public.events,audit.*"):
        assert derived("__backup_config", **HOST, backup_row_order_except=said)["row_order_except"] == [
            "public.events",
            "audit.*",
        ]
