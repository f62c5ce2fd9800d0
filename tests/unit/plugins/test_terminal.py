# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What people see of the playbooks on a terminal, at 80 and at 120 columns: nothing is cut or wrapped where it ends.

The real playbooks run on a real terminal; the agents' answers are made up, so that it is the same every time. What is shown is
kept in ``terminal`` beside this file, with its colours; ``tools/make_pictures.py`` draws the documentation's pictures from it.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tests.support.terminal import Answer, plain

CAPTURES = Path(__file__).with_name("terminal")
OUTPUT = Path(__file__).resolve().parents[2] / "output/terminal"
CHECKOUT = Path(__file__).resolve().parents[3]
VERSION = yaml.safe_load((CHECKOUT / "galaxy.yml").read_text())["version"]
TIME = "2026-11-22T03:07:11+00:00"


def state(container, database, **changes):
    """How well one database is."""
    well = {
        "container": container, "database": database, "last_success": TIME, "age_seconds": 31900, "ok": True, "fresh": True,
        "snapshot_id": "5f0c8e1b4c7d", "bytes_read": 925200000, "error": None,
        "drill": {"ok": True, "time": TIME, "age_seconds": 777600, "recovery_seconds": 38.2, "error": None},
        "new_data": {"night": {"bytes_added": 4600000, "share": 0.012}, "row_order": {"why_not": None}},
    }  # fmt: skip
    return well | changes


def agents_answer(fleet):
    """Two hosts: on one of them, a database has failed in its last two nights."""
    web1, web2 = fleet.host("web1"), fleet.host("web2")
    failure = {"code": "dump_failed", "message": "pg_dump ended with exit code 1."}
    bad = state(
        "scalr-wiki-db", "wiki", ok=False, fresh=False, error=failure, last_success="2026-11-20T03:07:11+00:00",
        age_seconds=204700, snapshot_id="021f5e0c77aa", bytes_read=52400000,
    )  # fmt: skip
    finding = {
        "code": "dump_failed", "severity": "failure", "container": "scalr-wiki-db", "database": "wiki",
        "message": "scalr-wiki-db/wiki has no good backup younger than 26 h: pg_dump ended with exit code 1.",
        "command": "ansible-playbook scalr.backup.backup -e db=scalr-wiki-db --limit web2", "remedy": None,
    }  # fmt: skip
    known = {"agent_version": VERSION, "problems": [], "next_pass": "2026-11-23T03:00:00+00:00", "kept_databases": []}
    web1.agent_returns(
        {**known, "host": "web1", "healthy": True, "verdict": "safe", "findings": [], "databases": [state("scalr-foo-db", "foo")],
         "summary": "Safe: 1 database, the last good backup is 8 h 51 min old."},
        to="status", events=[{"event": "progress"}],
    )  # fmt: skip
    web2.agent_returns(
        {**known, "host": "web2", "healthy": False, "verdict": "not_safe", "findings": [finding], "problems": [finding["message"]],
         "databases": [bad], "summary": f"NOT SAFE: 1 problem; first: {finding['message']}"},
        to="status", events=[{"event": "progress"}],
    )  # fmt: skip
    for docker, container, database in ((web1, "scalr-foo-db", "foo"), (web2, "scalr-wiki-db", "wiki")):
        containers = [{"name": container, "status": "ok", "databases": []}]
        docker.agent_returns({"host": "h", "containers": containers, "warnings": []}, to="discover")
        docker.agents_image_is("sha256:5f0c")
        docker.agent_returns({"databases": [drilled(container, database)]}, to="drill", events=[{"event": "progress"}])
    restores(web1)


def drilled(container, database):
    """What became of one database in a drill."""
    return {
        "container": container, "database": database, "ok": True, "snapshot_id": "5f0c8e1b4c7d", "snapshot_time": TIME,
        "image": "postgres:17", "tables": 37, "rows": 1250000, "recovery_seconds": 38.2, "amcheck": "passed",
        "assertions": {"passed": 2, "failed": 0}, "error": None,
    }  # fmt: skip


def restores(docker):
    """The agent can restore a database, and tells how far it is."""
    snapshot = {"short_id": "5f0c8e1b", "time": TIME, "age_seconds": 31900, "dump_bytes": 925200000}
    connected = [{"user": "app", "application": "web", "address": "172.17.0.5", "sessions": 3}]
    database = {
        "database": "foo", "exists": True, "size_bytes": 1288490188, "snapshot": snapshot, "sessions": 3,
        "source_database": "foo", "connected": connected, "old_database": None,
    }  # fmt: skip
    plan = {
        "host": "web1", "container": "scalr-foo-db", "databases": [database], "warnings": [], "confirm": "scalr-foo-db",
        "strategy": "beside", "undo": None, "roles": [], "snapshot": "5f0c8e1b",
    }  # fmt: skip
    restored = {
        "database": "foo", "ok": True, "error": None, "snapshot_id": "5f0c8e1b4c7d", "safety_snapshot_id": "0d2f6a9be411",
        "old_database": None, "verified": {"tables": 37, "rows": 1250000}, "duration_seconds": 41.7,
    }  # fmt: skip
    about = {"event": "log", "level": "info", "container": "scalr-foo-db", "database": "foo"}
    events = [
        {**about, "message": "Backed up first, as 0d2f6a9b."},
        {**about, "message": "Restored beside the live database: 1,250,000 rows in 37 tables counted."},
        {**about, "message": "Swapped names with the live database."},
    ]
    docker.agent_returns(
        {"plan": plan, "run": None, "databases": []}, to="restore --plan", events=[{"event": "progress"}]
    )
    docker.agent_returns({"plan": plan, "run": "r", "databases": [restored]}, to="restore", changed=True, events=events)


def as_kept(shown):
    """What is shown up to the failure that ends a playbook, which every version of Ansible words in its own way."""
    shown = shown.partition("\nTASK [Fail if the backups are not healthy]")[0]
    # How the terminal repeats what is typed depends on when it is.
    shown = re.sub(r"(?<=aborts:\n)(.*?)(?=\nTASK \[Ask)", "scalr-foo-db\n", shown, flags=re.DOTALL)
    # Hosts answer at the same time.
    return re.sub(
        r"(?:^.*ok: \[web\d\].*\n)+",
        lambda lines: "".join(sorted(lines[0].splitlines(True))),
        shown,
        flags=re.MULTILINE,
    )


def said_by_us(shown):
    """The lines that the playbooks print, without Ansible's own about tasks and hosts."""
    own = re.compile(r"(PLAY|TASK) |(ok|changed|fatal): \[|\[|web\d +: ok=|scalr-foo-db$")
    return [line for line in plain(shown) if line and not own.match(line)]


@pytest.mark.parametrize(
    ("name", "playbook", "columns"),
    [
        ("status-80", "status", 80),
        ("status-120", "status", 120),
        ("drill-80", "drill", 80),
        ("restore-80", "restore", 80),
    ],
)
def test_what_is_shown_fits_and_is_what_the_documentation_shows(fleet, name, playbook, columns):
    agents_answer(fleet)
    asked = {"answer": Answer("anything else aborts", "scalr-foo-db")} if playbook == "restore" else {}
    given = {"db": "scalr-foo-db"} if playbook == "restore" else {}

    shown = as_kept(fleet.run_on_terminal(playbook, columns, **asked, **given))

    OUTPUT.mkdir(parents=True, exist_ok=True)
    (OUTPUT / f"{name}.ansi").write_text(shown)
    # The terminal folds Ansible's question, and a command is one line, to be copied.
    folded = re.compile(r"Type the container's name| {4}ansible-playbook ")
    assert [line for line in said_by_us(shown) if len(line) > columns and not folded.match(line)] == []
    assert said_by_us(shown) == said_by_us((CAPTURES / f"{name}.ansi").read_text()), (
        f"if it is meant to be so, copy tests/output/terminal/{name}.ansi into {CAPTURES.relative_to(CHECKOUT)}, "
        "and run tools/make_pictures.py"
    )
    assert str(CHECKOUT) not in shown
