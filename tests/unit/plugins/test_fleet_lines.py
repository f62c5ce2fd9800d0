# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the playbooks tell of all hosts at their end."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.scalr.backup.plugins.filter.answer_objection import answer_objection
from ansible_collections.scalr.backup.plugins.plugin_utils._fleet_lines import (
    backup_lines,
    check_lines,
    drill_lines,
    prune_lines,
    rotate_lines,
    status_lines,
)
from scalr_backup.actions.health.finding import Finding

from tests.support import fleets

GONE = "The host was not reached."
NOT_SAVED = {"code": "dump_failed", "message": "pg_dump ended with exit code 1."}


def host(name: str, outcome: str, **noted: object) -> dict[str, Any]:
    """A host, and what a playbook has noted of it."""
    return {"host": name, "outcome": outcome, "failure": "", "rows": [], "notes": [], **noted}


def cells(line: str) -> list[str]:
    """The cells of a row."""
    return re.split(r" {2,}", line)


def saved(database: str, **changes: object) -> dict[str, Any]:
    """What became of one database in a pass."""
    done = {"container": "scalr-foo-db", "database": database, "ok": True, "error": None, "snapshot_id": "5f0c8e1b4c7d"}
    return {**done, "bytes_read": 2048, "bytes_added": 1024, "rows": 12, "duration_seconds": 1.25, **changes}


class TestBackup:
    def test_of_all_that_can_happen_to_a_host(self):
        failed = saved("bar", ok=False, error=NOT_SAVED, snapshot_id=None, rows=None)
        lines = backup_lines(
            [
                host("web1", "saved", rows=[saved("foo")]),
                host("web2", "failed", rows=[saved("foo"), failed], failure="1 of 2 failed."),
                host("web3", "not reached", failure=GONE),
                host("web4", "failed", rows=[saved("foo")], failure="The repository is locked."),
                host("web5", "nothing to back up", notes=["wiki-postgres-1 is not backed up.", "Neither is another."]),
                host("web6", "without such a container", failure="web6 has only scalr-bar-db."),
            ]
        )

        assert cells(lines[0]) == [
            "HOST", "CONTAINER", "DATABASE", "RESULT", "SNAPSHOT", "READ", "NEW", "ROWS", "TIME",
        ]  # fmt: skip
        assert [cells(line) for line in lines[2:8]] == [
            ["web2", "scalr-foo-db", "bar", NOT_SAVED["message"], "-", "2.0 KiB", "1.0 KiB", "-", "1.2 s"],
            ["web3", "-", "-", GONE, "-", "-", "-", "-", "-"],
            ["web4", "-", "-", "The repository is locked.", "-", "-", "-", "-", "-"],
            ["web1", "scalr-foo-db", "foo", "saved", "5f0c8e1b", "2.0 KiB", "1.0 KiB", "12", "1.2 s"],
            ["web2", "scalr-foo-db", "foo", "saved", "5f0c8e1b", "2.0 KiB", "1.0 KiB", "12", "1.2 s"],
            ["web4", "scalr-foo-db", "foo", "saved", "5f0c8e1b", "2.0 KiB", "1.0 KiB", "12", "1.2 s"],
        ]
        assert lines[8:] == [
            "",
            "web5: wiki-postgres-1 is not backed up.",
            "web5: Neither is another.",
            "",
            "6 hosts: 1 not reached, 2 failed, 1 saved, 1 nothing to back up, 1 without such a container.",
        ]

    def test_in_check_mode(self):
        lines = backup_lines([host("web1", "would be saved", rows=[{"container": "scalr-foo-db", "database": "foo"}])])

        assert cells(lines[2])[:5] == ["web1", "scalr-foo-db", "foo", "would be saved", "-"]
        assert lines[3:] == ["", "1 host: 1 would be saved."]


def test_checks():
    lines = check_lines(
        [
            host("web1", "intact", read="structure only"),
            host("web2", "failed", failure="The repository is damaged.", read="structure only"),
            host("web3", "not reached", failure=GONE, read="structure only"),
        ]
    )

    assert cells(lines[0]) == ["HOST", "REPOSITORY", "DATA READ"]
    assert [cells(line) for line in lines[2:5]] == [
        ["web2", "The repository is damaged.", "-"],
        ["web3", GONE, "-"],
        ["web1", "intact", "structure only"],
    ]
    assert lines[5:] == ["", "3 hosts: 1 not reached, 1 failed, 1 intact."]


def drilled(database: str, **changes: object) -> dict[str, Any]:
    """What became of one database in a drill."""
    done = {"container": "scalr-foo-db", "database": database, "ok": True, "error": None, "snapshot_id": "5f0c8e1b4c7d"}
    done |= {"snapshot_time": "2026-11-22T03:00:11+00:00", "image": "postgres:17", "tables": 7, "rows": 1234}
    return {**done, "recovery_seconds": 8.9, "amcheck": "passed", "assertions": {"passed": 1, "failed": 0}, **changes}


class TestDrill:
    def test_of_all_that_can_happen_to_a_host(self):
        error = {"code": "assertion_failed", "message": "orders.sql returned false."}
        failed = drilled("bar", ok=False, error=error, assertions={"passed": 1, "failed": 1})
        memory = {"code": "no_memory", "message": "There are 500.0 MiB of memory."}
        nothing = dict.fromkeys(["snapshot_id", "snapshot_time", "image", "tables", "rows", "recovery_seconds"])
        untried = drilled("baz", ok=False, error=memory, tried=False, **nothing, amcheck=None, assertions=None)
        lines = drill_lines(
            [
                host("web1", "passed", rows=[drilled("foo")]),
                host("web2", "failed", rows=[failed], failure="1 of 1 failed."),
                host("web3", "not reached", failure=GONE),
                host("web4", "not tried", rows=[untried], failure="1 of 1 was not tried."),
            ]
        )

        assert [cells(line) for line in lines[2:6]] == [
            ["web2", "scalr-foo-db", "bar", "orders.sql returned false.", "5f0c8e1b", "2026-11-22T03:00:11Z", "postgres:17",
             "7", "1234", "8.9 s", "passed", "1 of 2"],
            ["web3", "-", "-", GONE, *["-"] * 8],
            ["web4", "scalr-foo-db", "baz", "not tried: There are 500.0 MiB of memory.", *["-"] * 8],
            ["web1", "scalr-foo-db", "foo", "passed", "5f0c8e1b", "2026-11-22T03:00:11Z", "postgres:17",
             "7", "1234", "8.9 s", "passed", "1 of 1"],
        ]  # fmt: skip
        assert lines[6:] == ["", "4 hosts: 1 not reached, 1 failed, 1 not tried, 1 passed."]

    def test_in_check_mode(self):
        assert drill_lines([host("web1", "not drilled")], check_mode=True)[2:] == [
            "",
            "1 host: 1 not drilled.",
            "Check mode cannot predict a drill: nothing was restored.",
        ]


class TestPrune:
    HOSTS = (
        {**host("web1", "pruned"), "removed": "2", "kept": 5, "warnings": []},
        {**host("web2", "not trusted", failure="Not trusted."), "removed": 0, "kept": 7, "warnings": ["3 are gone."]},
        {**host("web3", "not reached", failure=GONE), "removed": "", "kept": "", "warnings": []},
    )

    def test_shows_the_worst_first(self):
        lines = prune_lines(self.HOSTS)

        assert lines[0].split() == ["HOST", "RESULT", "REMOVED", "REMAIN"]
        assert [cells(line) for line in lines[2:5]] == [
            ["web2", "Not trusted.", "0", "7"],
            ["web3", GONE, "-", "-"],
            ["web1", "pruned", "2", "5"],
        ]
        assert lines[5:] == ["", "3 hosts: 1 not reached, 1 not trusted, 1 pruned.", "3 are gone."]

    def test_in_check_mode(self):
        assert cells(prune_lines(self.HOSTS, check_mode=True)[0])[-2:] == ["WOULD BE REMOVED", "REMAIN"]


class TestRotate:
    def test_says_what_became_of_it_and_where_the_passwords_have_to_go(self):
        lines = rotate_lines(
            [
                {"host": "web1", "result": "changed", "switched": True, "giver": "role"},
                {"host": "web2", "result": "changed", "switched": True, "giver": "operator"},
                {"host": "web3"},
            ]
        )

        assert [cells(line) for line in lines[2:5]] == [
            ["web1", "changed"],
            ["web2", "changed"],
            ["web3", "NOT changed: the host was not reached."],
        ]
        assert lines[5] == ""
        assert lines[6].startswith("Where backup_password or an env file sets the password, put the new one there now:")
        assert "KEEP A COPY SOMEWHERE ELSE" in lines[7]

    @pytest.mark.parametrize("giver", ["operator", "role"])
    def test_says_nothing_of_one_that_was_not_changed(self, giver):
        lines = rotate_lines([{"host": "web1", "result": "It failed.", "switched": False, "giver": giver}])

        assert lines[2:] == ["web1  It failed."]


def status_of(name: str, outcome: str, *rows: dict[str, Any], **changes: object) -> dict[str, Any]:
    """A host, and how it is."""
    noted = {"rows": list(rows), "next_pass": "2026-11-23T03:00:00Z", "summary": f"{name}.", "findings": [], "kept": []}
    return {"host": name, "outcome": outcome, **noted, **changes}


def database(name: str, **changes: object) -> dict[str, Any]:
    """How well a database is."""
    drill = {"ok": True, "age_seconds": 90000, "recovery_seconds": 8.9}
    known = {"container": "scalr-foo-db", "database": name, "last_success": "2026-11-22T03:00:11+00:00", "ok": True}
    known |= {"age_seconds": 11549, "snapshot_id": "5f0c8e1b4c7d", "bytes_read": 2048, "error": None, "drill": drill}
    known |= {"new_data": {"night": {"bytes_added": 82, "share": 0.04}, "row_order": {"why_not": None}}}
    return {**known, **changes}


class TestStatus:
    def test_shows_databases_the_worst_first(self):
        drill = {"ok": False, "age_seconds": 90000, "recovery_seconds": None}
        lost = database(
            "lost",
            last_success=None,
            ok=False,
            age_seconds=None,
            snapshot_id=None,
            bytes_read=None,
            drill=None,
            new_data=None,
        )
        lines = status_lines(
            [
                status_of("web1", "safe", database("good"), database("failed", ok=False, error=NOT_SAVED)),
                status_of("web2", "safe", database("undrilled", drill=drill), database("stale", fresh=False), lost),
            ]
        )

        assert [cells(line) for line in lines[2:7]] == [
            ["web2", "scalr-foo-db", "lost", "never backed up", "-", "-", "-", "-", "-", "never", "-"],
            ["web1", "scalr-foo-db", "failed", NOT_SAVED["message"], "2026-11-22T03:00:11Z", "3 h 12 min", "2.0 KiB",
             "82 B, 4 %", "5f0c8e1b", "passed 1 d 1 h ago", "8.9 s"],
            ["web2", "scalr-foo-db", "stale", "no recent backup", "2026-11-22T03:00:11Z", "3 h 12 min", "2.0 KiB",
             "82 B, 4 %", "5f0c8e1b", "passed 1 d 1 h ago", "8.9 s"],
            ["web2", "scalr-foo-db", "undrilled", "drill failed", "2026-11-22T03:00:11Z", "3 h 12 min", "2.0 KiB",
             "82 B, 4 %", "5f0c8e1b", "FAILED 1 d 1 h ago", "-"],
            ["web1", "scalr-foo-db", "good", "ok", "2026-11-22T03:00:11Z", "3 h 12 min", "2.0 KiB",
             "82 B, 4 %", "5f0c8e1b", "passed 1 d 1 h ago", "8.9 s"],
        ]  # fmt: skip

    def test_says_where_auto_has_given_up_and_shows_no_night_before_the_first(self):
        why = "auto gave up on 2026-11-06: 83 % of each dump was new"
        new = database("new", new_data={"night": None, "row_order": {"why_not": None}})
        given_up = database("audit", new_data={"night": None, "row_order": {"why_not": why}})
        older = database("older")
        del older["new_data"]
        lines = status_lines([status_of("web1", "safe", new, given_up, older)])
        assert [cells(line)[7] for line in lines[2:5]] == ["-", "-", "-"]
        assert f"web1: scalr-foo-db/audit: {why}." in lines

    def test_shows_hosts_the_worst_first(self):
        outcomes = {
            "web1": "safe",
            "web2": "not complete",
            "web3": "not safe",
            "web4": "without an answer",
            "web5": "waiting for the first pass",
            "web6": "not reached",
            "web7": "nothing to back up",
        }

        lines = status_lines([status_of(name, outcome) for name, outcome in outcomes.items()])

        table = lines[lines.index("") + 3 :]
        assert [cells(line)[:2] for line in table[:7]] == [
            ["web4", "NO"], ["web6", "NO"], ["web3", "NO"], ["web2", "partly"], ["web1", "yes"], ["web5", "-"], ["web7", "-"],
        ]  # fmt: skip
        assert table[7:] == [
            "",
            "7 hosts: 1 not reached, 1 without an answer, 1 not safe, 1 not complete, 1 safe, 1 waiting for the first pass, "
            "1 nothing to back up.",
        ]

    def test_a_database_whose_container_has_a_failure_is_not_ok(self):
        lost = Finding("roles_not_saved", "failure", "roles", "No roles.", "x", "scalr-foo-db").as_dict()
        full = Finding("volume_nearly_full", "warning", "volume", "No room.", "x", "scalr-bar-db").as_dict()
        rows = database("bar", container="scalr-bar-db"), database("foo")

        lines = status_lines([status_of("web1", "not safe", *rows, findings=[lost, full])])

        assert [cells(line)[2:4] for line in lines[2:4]] == [["foo", "not safe, see below"], ["bar", "ok"]]

    def test_says_what_is_wrong_and_what_to_do(self):
        findings = [
            {
                "code": "repository_on_host",
                "message": "It lies on this host.",
                "remedy": "Say where.",
                "command": "site",
            },
            {"message": "It is old.", "remedy": None, "command": ""},
        ]
        kept = {
            "container": "scalr-foo-db",
            "database": "foo_before_restore_x",
            "kept_since": "2026-11-22T03:00:00+00:00",
            "command": "docker exec scalr-foo-db dropdb -- foo_before_restore_x",
        }

        lines = status_lines([status_of("web1", "safe", findings=findings, kept=[kept])])

        assert lines[-9:] == [
            "",
            "web1: It lies on this host.",
            "    Say where.",
            "    site",
            "web1: It is old.",
            "web1: scalr-foo-db/foo_before_restore_x was kept by a restore on 2026-11-22 and is not backed up; once you no longer "
            "need it:",
            "    docker exec scalr-foo-db dropdb -- foo_before_restore_x",
            "",
            "1 host: 1 safe as long as the host lives.",
        ]


@pytest.mark.parametrize("lines_of", [backup_lines, check_lines, drill_lines, prune_lines, status_lines])
def test_a_host_of_which_nothing_was_noted_counts_and_hides_no_other(lines_of):
    well = host("web1", "done", read="", removed=0, kept=[], warnings=[], summary="", findings=[], next_pass="")

    lines = lines_of([{"host": "web2"}, well])

    assert len([line for line in lines if line.startswith("web2 ") and "gave no answer" in line]) == 1
    assert any(re.fullmatch(r"2 hosts: 1 (failed|without an answer), 1 done[.]", line) for line in lines)


def prunes(**changes: object) -> dict[str, Any]:
    return {"removed": 0, "kept": 3, "warnings": [], **changes}


@pytest.mark.parametrize(
    ("lines_of", "well", "odd"),
    [
        (backup_lines, {"rows": [saved("foo")]}, {"rows": [saved("foo", bytes_read=math.inf)]}),
        (backup_lines, {"rows": [saved("foo")]}, {"rows": [saved("foo", duration_seconds=math.nan)]}),
        (backup_lines, {"rows": [saved("foo")]}, {"rows": [saved("foo", ok=False, error=None)]}),
        (backup_lines, {"rows": [saved("foo")]}, {"notes": 7}),
        (drill_lines, {"rows": [drilled("foo")]}, {"rows": [drilled("foo", recovery_seconds=math.inf)]}),
        (drill_lines, {"rows": [drilled("foo")]}, {"rows": [drilled("foo", snapshot_time=1)]}),
        (drill_lines, {"rows": [drilled("foo")]}, {"rows": {"foo": 1}}),
        (prune_lines, prunes(), prunes(warnings=7)),
        (status_lines, status_of("", "", database("foo")), status_of("", "", database("foo", age_seconds=math.inf))),
        (status_lines, status_of("", "", database("foo")), status_of("", "", database("foo", age_seconds=math.nan))),
        (status_lines, status_of("", "", database("foo")), status_of("", "", database("foo", last_success=7))),
        (status_lines, status_of("", "", database("foo")), status_of("", "", database("foo", drill=[1]))),
        (status_lines, status_of("", "", database("foo")), status_of("", "", findings=[{}])),
        (status_lines, status_of("", "", database("foo")), status_of("", "", kept=[{"container": "c"}])),
    ],
)
def test_a_host_whose_answer_cannot_be_read_is_a_failure_of_its_own(lines_of, well, odd):
    hosts = [
        host(name, "done") | noted | {"host": name, "outcome": "done"}
        for name, noted in (("web1", well), ("web2", odd))
    ]

    lines = lines_of([*reversed(hosts), {**hosts[0], "host": "web3"}])

    [line] = [line for line in lines if line.startswith("web2 ")]
    assert "The answer of this host cannot be read (" in line
    assert line.rstrip(" -").endswith("run site.yml, which updates its agent.")
    assert {line.split(" ")[0] for line in lines if line.startswith("web")} == {"web1", "web2", "web3"}
    assert any(re.fullmatch(r"3 hosts: 1 (failed|without an answer), 2 done[.]", line) for line in lines)


@pytest.mark.parametrize(
    ("playbook", "result"),
    [
        ("backup", {"databases": [saved("foo")], "notes": ["wiki is not backed up."]}),
        ("backup", {"plan": [{"container": "scalr-foo-db", "database": "foo"}]}),
        ("drill", {"databases": [drilled("foo")]}),
        ("status", fleets.failing(1)[0]["status"]),
        ("status", {"databases": [database("foo")], "findings": [], "kept_databases": None}),
        *((playbook, {"unreachable": True, "msg": "no route to host"}) for playbook in ("backup", "drill", "status")),
    ],
)
def test_nothing_is_objected_to_an_answer_that_can_be_read_and_to_none(playbook, result):
    assert answer_objection(result, playbook) == ""


def test_an_objection_is_asked_for_by_a_playbook_that_has_one():
    with pytest.raises(AnsibleFilterError, match="knows backup, drill and status, not prune"):
        answer_objection({}, "prune")
