# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables on terminals of all widths: names stay whole, and so do times."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console
from scalr_backup.cli.tables import TABLES
from scalr_backup.core.new_data import order_pays
from scalr_backup.core.units import NOTHING

# They begin and end alike: cut anywhere near their ends, or to their beginnings, they are one.
NAMES = ("scalr-customer-portal-production-db", "scalr-customer-portal-staging-db")
TIME = "2026-11-22T03:00:11+00:00"


def _status(name):
    return {
        "container": name, "database": "customers", "ok": True, "fresh": True, "age_seconds": 33120, "bytes_read": 204010946,
        "kept": {"snapshots": 12, "why": {"daily": 9, "weekly": 2, "pinned": 1}},
        "drill": {"ok": True, "age_seconds": 97200, "recovery_seconds": 12.3},
        "new_data": {"night": {"bytes_added": 7130316, "share": 0.035}, "row_order": {"why_not": None}},
    }  # fmt: skip


def _snapshot(name):
    return {
        "short_id": "5f0c8e1b", "time": TIME, "container": name, "path": "", "database": "customers", "reason": "pre-restore",
        "dump_bytes": 204010946, "pinned": True,
    }  # fmt: skip


def _entry(name, error=None):
    return {
        "time": TIME, "kind": "backup", "container": name, "database": "customers", "ok": error is None, "error": error,
        "bytes_read": 204010946, "bytes_added": 1234567, "rows": 12345678, "seconds": 11549,
    }  # fmt: skip


ANSWERS = {
    "status": {
        "verdict": "safe", "host": "web1", "summary": "Safe.", "copy": None, "findings": [], "kept_databases": [],
        "databases": [_status(name) for name in NAMES], "schedule": "0 3 * * *",
        "next_pass": "2026-11-23T03:00:00+00:00",
        "repository_growth": {"since": TIME, "bytes_a_night": 2411724},
    },
    "snapshots": {"snapshots": [_snapshot(name) for name in NAMES]},
    "history": {
        "since": TIME,
        "entries": [
            _entry(NAMES[0]), _entry(NAMES[1], "pg_dump ended with exit code 1: out of memory"),
            {"time": TIME, "kind": "pass", "ok": True, "error": None, "size_bytes": 204010946},
        ],
    },
}  # fmt: skip
WHOLE = {
    "status": (
        "9 h 12 min",
        "194.6 MiB",
        "6.8 MiB, 4 %",
        "The repository grows by 2.3 MiB a night",
        "passed 1 d 3 h ago, 12 s",
        "2026-11-23 03:00:00 UTC",
    ),
    "snapshots": ("2026-11-22 03:00:11 UTC", "194.6 MiB", "5f0c8e1b", "pre-restore", "pinned"),
    "history": ("2026-11-22 03:00:11 UTC", "194.6 MiB", "1.2 MiB, 1 %", "12,345,678", "3 h 12 min"),
}


def shown(verb, width, answer=None):
    written = io.StringIO()
    TABLES[verb](Console(file=written, width=width), answer or ANSWERS[verb])
    return written.getvalue()


@pytest.mark.parametrize("width", [250, 120, 80, 60, 40, 20])
@pytest.mark.parametrize("verb", ANSWERS)
def test_no_name_is_cut_and_no_time_is_broken(verb, width):
    said = shown(verb, width)
    assert "…" not in said
    for name in NAMES:
        assert said.count(name) == 1
    for words in WHOLE[verb]:
        assert words in said


@pytest.mark.parametrize("verb", ANSWERS)
def test_on_eighty_columns_a_table_is_a_table(verb):
    """Its headings once, and what is said in prose is wrapped between words, in its own column."""
    lines = shown(verb, 80).splitlines()
    assert sum("CONTAINER/DATABASE" in line for line in lines) == 1
    assert all(len(line) <= 80 for line in lines), lines


def test_a_sentence_is_wrapped_in_its_column():
    lines = [line.rstrip() for line in shown("history", 80).splitlines()]
    begin = lines.index(f"2026-11-22 03:00:11 UTC  {NAMES[1]}/customers") + 1
    end = lines.index("2026-11-22 03:00:11 UTC")
    first, *further = lines[begin:end]
    assert first.startswith("  backup  FAILED: pg_dump ended")
    assert first.endswith("  194.6 MiB  1.2 MiB, 1 %  12,345,678  3 h 12 min")
    column = first.index("FAILED")
    assert further
    assert all(line[:column].isspace() and not line[column].isspace() for line in further)
    assert " ".join(line.strip() for line in further).endswith("out of memory")


def test_what_is_kept_has_a_line_of_its_own_where_the_rest_fills_the_terminal():
    lines = [line.rstrip() for line in shown("status", 80).splitlines()]
    assert lines[2] == "  HEALTH  LAST GOOD   DUMP       NEW A NIGHT   LAST DRILL"
    assert lines[4:6] == [
        "  ok      9 h 12 min  194.6 MiB  6.8 MiB, 4 %  passed 1 d 3 h ago, 12 s",
        "  kept 12: 9 daily, 2 weekly, 1 pinned",
    ]


def _newly(anew):
    """What the history says of a dump that had to be all new."""
    entry = {**_entry(NAMES[0]), "bytes_added": 204010946, "anew": anew}
    return shown("history", 160, {"since": TIME, "entries": [entry]})


@pytest.mark.parametrize(
    ("anew", "words"), [("first", "194.6 MiB, first"), ("order", "194.6 MiB, new order"), (None, "100 %")]
)
def test_a_dump_that_had_to_be_all_new_says_why_and_no_share(anew, words):
    said = _newly(anew)
    assert words in said
    assert ("%" in said) == (anew is None)


def test_a_database_before_its_first_night_has_none_and_one_out_of_order_says_why():
    first = {"night": None, "row_order": {"why_not": None}}
    given_up = {"night": None, "row_order": {"why_not": "auto gave up on 2026-11-06: 83 % of each dump was new"}}
    databases = [{**_status("shop-db"), "new_data": one} for one in (None, first, given_up)]
    said = shown("status", 160, {**ANSWERS["status"], "databases": databases, "repository_growth": None})
    assert said.count(f"  194.6 MiB  {NOTHING}            12:") == 3
    assert said.count("◦ shop-db/customers: auto gave up on 2026-11-06: 83 % of each dump was new.") == 1
    assert "The repository" not in said


def test_the_example_in_the_documentation_is_what_is_printed():
    page = (Path(__file__).parents[3] / "docs/retention.md").read_text()
    example = page[
        page.index("Safe: 2 databases, the oldest") : page.index("```", page.index("Safe: 2 databases, the oldest"))
    ]
    given_up = {"time": "2026-11-06T03:00:00+00:00", "share": 0.83, "dumps": 9}
    why = order_pays({"nights": [], "layout": {}, "given_up": given_up}, datetime(2026, 11, 22, tzinfo=UTC)).why
    databases = [
        {
            **_status(f"scalr-{name}-db"), "database": name, "age_seconds": age, "bytes_read": dump,
            "kept": {"snapshots": 12, "why": {"daily": 12}},
            "drill": {"ok": True, "age_seconds": 97200, "recovery_seconds": recovery},
            "new_data": {"night": {"bytes_added": added, "share": share}, "row_order": {"why_not": reason}},
        }
        for name, age, dump, added, share, recovery, reason in (
            ("audit", 33120, 1288490188, 1070910668, 0.83, 31, why), ("shop", 33060, 204010946, 7130316, 0.035, 12, None),
        )
    ]  # fmt: skip
    answer = {
        **ANSWERS["status"], "summary": "Safe: 2 databases, the oldest good backup is 9 h 12 min old.", "databases": databases,
        "repository_growth": {"since": "2026-11-09T03:00:00+00:00", "bytes_a_night": 284500000},
    }  # fmt: skip
    assert shown("status", 120, answer).split() == example.split()


def test_a_repository_that_shrinks_says_so():
    answer = {**ANSWERS["status"], "repository_growth": {"since": TIME, "bytes_a_night": -1024}}
    assert "The repository shrinks by 1.0 KiB a night, as measured since 2026-11-22." in shown("status", 80, answer)


def test_where_there_is_room_a_row_is_a_line():
    lines = shown("status", 160).splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["CONTAINER", *NAMES]
    short = {**ANSWERS["status"], "databases": [_status("shop-db")]}
    assert "shop-db  " in shown("status", 125, short)


def test_names_are_no_markup():
    answer = {"snapshots": [_snapshot("[red]x[/]"), _snapshot("[bold]")]}
    for width in (250, 60, 20):
        said = shown("snapshots", width, answer)
        assert "[red]x[/]" in said
        assert "[bold]" in said
