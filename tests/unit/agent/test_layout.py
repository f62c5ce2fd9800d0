# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables on terminals of all widths: names stay whole, and so do times."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from scalr_backup.cli.tables import TABLES

# They begin and end alike: cut anywhere near their ends, or to their beginnings, they are one.
NAMES = ("scalr-customer-portal-production-db", "scalr-customer-portal-staging-db")
TIME = "2026-11-22T03:00:11+00:00"


def _status(name):
    return {
        "container": name, "database": "customers", "ok": True, "fresh": True, "age_seconds": 33120, "bytes_read": 204010946,
        "kept": {"snapshots": 12, "why": {"daily": 9, "weekly": 2, "pinned": 1}},
        "drill": {"ok": True, "age_seconds": 97200, "recovery_seconds": 12.3},
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
        "databases": [_status(name) for name in NAMES], "next_pass": "2026-11-23T03:00:00+00:00",
    },
    "snapshots": {"snapshots": [_snapshot(name) for name in NAMES]},
    "history": {
        "since": TIME,
        "entries": [
            _entry(NAMES[0]), _entry(NAMES[1], "pg_dump ended with exit code 1: out of memory"),
            {"time": TIME, "kind": "pass", "ok": True, "error": None, "seconds": 3.2},
        ],
    },
}  # fmt: skip
WHOLE = {
    "status": ("9 h 12 min", "194.6 MiB", "passed 1 d 3 h ago, 12 s", "2026-11-23 03:00:00 UTC"),
    "snapshots": ("2026-11-22 03:00:11 UTC", "194.6 MiB", "5f0c8e1b", "pre-restore", "pinned"),
    "history": ("2026-11-22 03:00:11 UTC", "194.6 MiB", "1.2 MiB", "12,345,678", "3 h 12 min"),
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
    assert first.endswith("  194.6 MiB  1.2 MiB  12,345,678  3 h 12 min")
    column = first.index("FAILED")
    assert further
    assert all(line[:column].isspace() and not line[column].isspace() for line in further)
    assert " ".join(line.strip() for line in further).endswith("out of memory")


def test_where_there_is_room_a_row_is_a_line():
    lines = shown("status", 160).splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["CONTAINER", *NAMES]
    short = {**ANSWERS["status"], "databases": [_status("shop-db")]}
    assert "shop-db  " in shown("status", 110, short)


def test_names_are_no_markup():
    answer = {"snapshots": [_snapshot("[red]x[/]"), _snapshot("[bold]")]}
    for width in (250, 60, 20):
        said = shown("snapshots", width, answer)
        assert "[red]x[/]" in said
        assert "[bold]" in said
